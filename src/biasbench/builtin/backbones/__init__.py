"""Backbones: any timm model."""
