// Module critest names the conformance suite of Kubernetes for container runtimes, which make builds: its
// dependencies are nobody else's.
module github.com/vswitch/vswitch/internal/runtimetest/critest

go 1.26.8

tool sigs.k8s.io/cri-tools/cmd/critest

require sigs.k8s.io/cri-tools v1.37.0 // indirect
