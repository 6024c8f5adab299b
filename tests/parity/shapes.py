"""The shapes of random models that are compared, and the inputs each is run on."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    name: str
    heads: int
    head_dim: int
    ffn: int
    layers: int
    channels: int
    text_dim: int
    text_rows: int  # S
    latent: tuple   # T, H, W
    times: tuple    # one per sample, so their number is the batch
    text_lengths: tuple
    freq_dim: int = 256

    @property
    def width(self):
        return self.heads * self.head_dim

    def latents_shape(self):
        return (len(self.times), self.channels, *self.latent)

    def diffusers_config(self):
        return {"patch_size": (1, 2, 2), "num_attention_heads": self.heads, "attention_head_dim": self.head_dim,
                "in_channels": self.channels, "out_channels": self.channels, "text_dim": self.text_dim,
                "freq_dim": self.freq_dim, "ffn_dim": self.ffn, "num_layers": self.layers, "cross_attn_norm": True,
                "qk_norm": "rms_norm_across_heads", "eps": 1e-6, "image_dim": None, "added_kv_proj_dim": None,
                "rope_max_seq_len": 1024, "pos_embed_seq_len": None}

    def original_config(self):
        return {"_class_name": "WanModel", "_diffusers_version": "0.30.0", "dim": self.width, "eps": 1e-6,
                "ffn_dim": self.ffn, "freq_dim": self.freq_dim, "in_dim": self.channels, "model_type": "t2v",
                "num_heads": self.heads, "num_layers": self.layers, "out_dim": self.channels,
                "text_len": self.text_rows}


# Fractional times, and 937 and 833, which bfloat16 has not. Text lengths: full, usual, one row.
TINY_A = Shape("tiny-a", heads=2, head_dim=32, ffn=128, layers=2, channels=4, text_dim=32, text_rows=8, latent=(2, 4, 6),
               times=(937.0, 312.625), text_lengths=(8, 5))
TINY_TP = Shape("tiny-tp", heads=8, head_dim=16, ffn=256, layers=3, channels=16, text_dim=64, text_rows=512,
                latent=(3, 8, 12), times=(833.25, 20.5, 999.0), text_lengths=(512, 77, 1))
TINY_ODD = Shape("tiny-odd", heads=4, head_dim=32, ffn=256, layers=2, channels=16, text_dim=64, text_rows=512,
                 latent=(3, 6, 10), times=(937.5, 0.75), text_lengths=(130, 9))
REAL_WIDTH = Shape("real-width", heads=12, head_dim=128, ffn=8960, layers=2, channels=16, text_dim=4096, text_rows=512,
                   latent=(3, 16, 16), times=(937.0, 404.875), text_lengths=(512, 61))
FULL = Shape("1.3B", heads=12, head_dim=128, ffn=8960, layers=30, channels=16, text_dim=4096, text_rows=512,
             latent=(3, 16, 16), times=(937.0,), text_lengths=(77,))

TINY = (TINY_A, TINY_TP, TINY_ODD)
BY_NAME = {shape.name: shape for shape in (*TINY, REAL_WIDTH, FULL)}
