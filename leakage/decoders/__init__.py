"""Inversion decoders: from feature maps to images, learned from pairs by training or in closed form."""

from .decoder import Decoder, train_decoder
from .network import ARCHITECTURES
from .ridge import Ridge, fit_ridge

__all__ = ["ARCHITECTURES", "Decoder", "Ridge", "fit_ridge", "train_decoder"]
