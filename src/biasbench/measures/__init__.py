"""What is measured: leakage, bias amplification and gaps between groups, as functions of arrays."""
