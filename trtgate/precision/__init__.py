"""How a model becomes fp32, tf32, fp16, bf16, int8 or fp8: one file a technique."""
