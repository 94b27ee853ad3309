"""Pretrained encoders: BERT from token ids to logits, and the weights in Hugging Face's format."""
