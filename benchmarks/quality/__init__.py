"""The quality experiments: what the trained networks reach on real labels, against what needs no training."""
