"""Networks: any timm architecture, with the papers' stems for small images."""
