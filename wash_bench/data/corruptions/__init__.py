"""Test images as ImageNet-C corrupts them.

``severities`` has the published strengths, ``kinds`` what each corruption does, ``corrupt`` does it
to a batch, ``published`` reads the files of CIFAR-10-C and CIFAR-100-C.
"""
