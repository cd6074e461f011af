package runtimetest

import (
	"strings"
	"testing"
)

const criSocket = "/run/containerd/containerd.sock"

// containerd starts containerd as Kubernetes has it, with our CNI plugin.
func (s *stack) containerd() {
	s.t.Helper()
	s.daemon("containerd", "containerd")
	s.await("containerd", "ctr version")
}

func newContainerd(t *testing.T) *stack {
	t.Helper()
	s := newStack(t, "")
	s.put(built(t, "VSWITCH_CRI"), "/usr/bin/cri", 0o755)
	s.put(built(t, "VSWITCH_CRI_BARE"), "/usr/local/bin/bare", 0o755)
	// The example of our package, as an administrator copies it; containerd 2 speaks
	// CNI 1.1.0, which has STATUS.
	s.must(`mkdir -p /etc/cni/net.d /etc/containerd /opt/cni/bin
		sed 's/"1.0.0"/"1.1.0"/' /usr/share/doc/vswitch/examples/10-vswitch.conflist > /etc/cni/net.d/10-vswitch.conflist
		dpkg-trigger --no-await --by-package=vswitch /opt/cni/bin; dpkg --configure vswitch; readlink /opt/cni/bin/vswitch
		cp /usr/lib/cni/loopback /opt/cni/bin
		cat > /etc/containerd/config.toml <<'EOF'
version = 3
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = 'io.containerd.runc.v2'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = '/usr/local/bin/bare'
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['/opt/cni/bin']
    conf_dir = '/etc/cni/net.d'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = 'localhost/bb:1'
EOF
		podman import --change 'CMD ["/bin/sleep","100000"]' /tmp/image.tar bb:1
		podman save --format oci-archive -o /tmp/image-oci.tar localhost/bb:1`)
	s.containerd()
	s.must("ctr -n k8s.io images import /tmp/image-oci.tar")
	return s
}

// pod runs a pod with a web server and returns its ID and address.
func (s *stack) pod(name, ports string) (id, address string) {
	s.t.Helper()
	id, address, ok := strings.Cut(s.must("cri "+criSocket+" run "+name+" localhost/bb:1 "+ports+" "+httpd(name)), " ")
	if !ok || address == "" {
		s.t.Fatalf("pod %s: %q %q", name, id, address)
	}
	return id, address
}

func (s *stack) cri(verb, pod string) {
	s.t.Helper()
	s.must("cri " + criSocket + " " + verb + " " + pod)
}

// Pods by the way Kubernetes takes, through containerd's CRI and CNI.
func TestCRI(t *testing.T) {
	s := newContainerd(t)
	s.await("the runtime's network", "cri "+criSocket+" ready")
	one, addr1 := s.pod("one", "8081:80")
	two, addr2 := s.pod("two", "8082:80")
	s.published(8081, "one")
	s.published(8082, "two")
	s.want("one", "curl -sS 127.0.0.1:8081")
	s.want("two", "curl -sS "+addr2)
	pid := func(pod string) string {
		return "$(ctr -n k8s.io task ls | grep " + pod + " | awk '{print $2}')"
	}
	s.want("two", "nsenter --net=/proc/"+pid(one)+"/ns/net curl -sS "+addr2)
	s.want("one", "nsenter --net=/proc/"+pid(two)+"/ns/net curl -sS "+addr1)
	if got := s.must("vswitch ps"); strings.Count(got, "cni:") != 2 {
		t.Errorf("vswitch ps does not name the runtime:\n%s", got)
	}
	// The host's own address, from inside: hairpin.
	s.want("one", "nsenter --net=/proc/"+pid(two)+"/ns/net curl -sS 198.51.100.1:8081")

	// STATUS: without a daemon the node is not ready, and says why.
	s.end("9", "vswitch")
	if got := s.await("the node to be not ready", "cri "+criSocket+" ready 2>&1 && exit 1; cri "+criSocket+" ready 2>&1 || true"); !strings.Contains(got, "vswitch") {
		t.Errorf("without a daemon: %s", got)
	}
	if got := s.run("cri " + criSocket + " run three localhost/bb:1 8083:80 /bin/true"); !strings.Contains(got, "vswitch") {
		t.Errorf("a pod without a daemon: %s", got)
	}
	s.vswitch()
	s.await("the node to be ready", "cri "+criSocket+" ready")
	s.published(8081, "one")

	// containerd may be restarted, gracefully and not.
	for _, signal := range []string{"TERM", "9"} {
		s.end(signal, "containerd")
		s.published(8082, "two")
		s.containerd()
		s.await("the node to be ready again", "cri "+criSocket+" ready")
		s.want(addr2, "cri "+criSocket+" address "+two)
	}

	s.cri("stop", one)
	s.cri("stop", one) // as kubelet does, until it is content
	s.cri("remove", one)
	if _, err := fetch(s.world.Outside, "198.51.100.1:8081"); err == nil {
		t.Error("the port of a removed pod answers")
	}
	s.published(8082, "two")
	// The address and the port are free again.
	again, _ := s.pod("again", "8081:80")
	s.published(8081, "again")
	// A port that is taken: one line, and nothing is left of the pod.
	if got := s.run("cri " + criSocket + " run taken localhost/bb:1 8081:80 /bin/true"); !strings.Contains(got, "8081") {
		t.Errorf("a port twice: %s", got)
	}
	for _, pod := range []string{two, again} {
		s.cri("stop", pod)
		s.cri("remove", pod)
	}
	s.empty("after all pods were removed")
}

// Kubernetes' own suite for runtimes, what it has about networks: DNS, the pod's name, ports of a pod with and
// without one of the host.
func TestCritest(t *testing.T) {
	s := newContainerd(t)
	s.put(built(t, "VSWITCH_CRITEST"), "/usr/bin/critest", 0o755)
	s.await("the runtime's network", "cri "+criSocket+" ready")
	// It asks a registry for its images: these have the names and do what it wants of them.
	s.must(`mkdir -p /tmp/image/www; echo page > /tmp/image/www/index.html; tar -C /tmp/image -cf /tmp/web.tar .
		podman import --change 'CMD ["/bin/httpd","-f","-p","80","-h","/www"]' /tmp/web.tar web:1
		podman save --format oci-archive -o /tmp/web-oci.tar localhost/web:1
		ctr -n k8s.io images import /tmp/web-oci.tar
		ctr -n k8s.io images tag localhost/web:1 registry.k8s.io/e2e-test-images/nginx:1.14-2
		ctr -n k8s.io images tag localhost/bb:1 registry.k8s.io/e2e-test-images/busybox:1.29-2`)
	got := s.run("timeout 300 critest -runtime-endpoint unix://" + criSocket + " -ginkgo.focus Networking -ginkgo.no-color 2>&1 | tail -150")
	if !strings.Contains(got, "4 Passed | 0 Failed") {
		t.Errorf("critest:\n%s", got)
	}
	s.empty("after critest")
}
