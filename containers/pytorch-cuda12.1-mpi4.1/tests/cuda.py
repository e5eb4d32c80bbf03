"""The GPU multiplies, and the CPU agrees."""

import torch

if not torch.cuda.is_available():
    raise SystemExit("torch sees no GPU: is the driver for CUDA 12.1 or later?")
torch.manual_seed(0)
left, right = torch.randn(512, 512), torch.randn(512, 512)
difference = (left @ right - (left.cuda() @ right.cuda()).cpu()).abs().max().item()
if difference > 1e-2:
    raise SystemExit(f"the products differ by {difference}")
print(f"CUDA {torch.version.cuda} on {torch.cuda.get_device_name(0)}: products agree", flush=True)
