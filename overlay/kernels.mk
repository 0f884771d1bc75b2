# Written by python -m zipml_pynq.devices.bitstreams; do not edit.
KERNELS := zipml_sgd zipml_sgd_f32 zipml_sgd_levels zipml_sgd_refetch zipml_sgd_wide
BUNDLES-zipml_sgd := gmem_planes gmem_labels gmem_vectors
BUNDLES-zipml_sgd_f32 := gmem_planes gmem_labels gmem_vectors
BUNDLES-zipml_sgd_levels := gmem_planes gmem_labels gmem_vectors
BUNDLES-zipml_sgd_refetch := gmem_planes gmem_labels gmem_vectors gmem_full
BUNDLES-zipml_sgd_wide := gmem_planes gmem_labels gmem_vectors
