"""Where pre-trained encoders come from: a model hub or local folder, or packages where no hub can be reached."""

from trainer.bases.load import Base, load_base

__all__ = ["Base", "load_base"]
