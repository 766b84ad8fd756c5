"""The commands of `trtgate` that build and run models; `trtgate.cli` imports each when it is called."""
