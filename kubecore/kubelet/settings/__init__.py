"""What a kubelet is told, by flags and by a KubeletConfiguration."""
