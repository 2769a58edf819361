"""Style transfer in memory: feature statistics, WCT and AdaIN, the cascade, mixed styles."""
