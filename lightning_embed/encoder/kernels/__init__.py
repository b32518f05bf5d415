"""Kernels of packed attention, one file each: `encoder.kernel`.

| word | computes | on |
|---|---|---|
| `groups` | one call for each group of equally long texts; everything | a CPU's choice; any device |
| `varlen` | one call for all texts, torch's own; windows, no dropout | CUDA of compute capability 8.0, 16 bits |
| `flash` | one call, of the package flash_attn; windows, dropout, capped scores | the same, where it is installed |
| `flex` | one call, compiled by Triton; any rule, capped scores, no dropout | CUDA |
| `batched` | one call for all texts padded to the longest; everything | any device |
"""
