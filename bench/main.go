// Bench measures vswitch against the Linux kernel's own bridge and NAT, and
// against other programs of its kind where they are installed, on the same
// machine, the same topology and in the same minutes.
//
//	go run ./bench                 everything, about an hour and a half
//	go run ./bench -quick          the main rows from few and short rounds, under three minutes
//	go run ./bench -ten            the ten rows that decide
//	go run ./bench -guard FILE     the main rows, against an earlier run's JSON
//
// The systems take turns: in each round first the kernel is measured, then
// vswitch, then the others, and what is reported is the median and the extremes of the ratio over
// the rounds, so that a machine that is slower for a while is slower for both.
// Run it on an idle machine all the same: the kernel's round trips get shorter
// when the other CPU is busy, because the scheduler then brings both ends to one
// CPU, and a userspace switch, which wants a CPU of its own, loses twice. So rows that end
// in @s keep client and server on one CPU, and those in @x on two: they decide, the others
// show what comes of chance.
//
// The kernel is its bridge with what Docker sets up: rules, and br_netfilter, by which they see
// what passes between containers. Beside it is the bridge that netfilter does not see.
// Everything happens in anonymous network namespaces that end with the process;
// the namespace it is started in stays as it is. It needs root, and the NAT rows
// need nft.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/bench/report"
	"github.com/vswitch/vswitch/bench/rig"
)

func main() {
	gen.RunIfAgent()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}

type options struct {
	quick    bool
	rounds   int
	window   time.Duration
	rival    string
	only     *regexp.Regexp
	binary   string
	dir      string
	markdown bool
	show     string
	html     string
	json     string
	guard    string
	// contention is where the mutex profiles go, and nothing else is measured.
	contention string
	// soak is how long all attacks go on at once, and nothing else is measured; fair is the
	// part of what others keep on the kernel's bridge that they have to keep here.
	soak time.Duration
	fair float64
	// each lets one attack after the other go on instead.
	each bool
	// kernelOnly leaves out the other programs; named: -only names rows; ten: only the rows that decide.
	kernelOnly, named, ten bool
}

func run(ctx context.Context, args []string) int {
	opt, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	switch {
	case opt.show != "":
		err = show(opt)
	case opt.contention != "":
		err = contention(ctx, opt)
	case opt.soak > 0:
		err = soak(ctx, opt)
	default:
		err = measure(ctx, opt)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

func parse(args []string) (options, error) {
	var opt options
	var only string
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.BoolVar(&opt.quick, "quick", false, "the main rows only, 2 rounds of 300 ms instead of 5 of 2 s")
	fs.IntVar(&opt.rounds, "rounds", 0, "`number` of rounds, 1 to 100")
	fs.DurationVar(&opt.window, "window", 0, "`length` of one measurement, 100 ms to 1 min")
	fs.StringVar(&opt.rival, "rival", rig.VSwitch, "who is compared with the kernel: vswitch, or kernel: the kernel with itself, which shows the noise of this machine")
	fs.StringVar(&only, "only", "", "only rows whose \"scenario/load\" matches `regexp`, those that -quick leaves out among them: containers/TCP bulk, ^ports; with -soak attacks")
	fs.StringVar(&opt.binary, "binary", "", "measure this vswitch instead of building bin/vswitch")
	fs.BoolVar(&opt.ten, "ten", false, "only the ten rows that decide, against the kernel, as -only and -kernel-only would choose them")
	fs.BoolVar(&opt.kernelOnly, "kernel-only", false, "compare with the kernel only, not with Open vSwitch and the others")
	fs.StringVar(&opt.html, "html", "", "write the result with plots to this `file` too")
	fs.StringVar(&opt.json, "json", "", "write the JSON to this `file` too")
	fs.StringVar(&opt.guard, "guard", "", "fail when a ratio is worse than in this JSON `file` of an earlier run, beyond the noise of both; implies -quick and, unless -only names them, leaves out what has no ratio")
	fs.StringVar(&opt.contention, "contention", "", "measure how long the daemon waits for its locks and nothing else; the mutex profiles go into this `directory`")
	fs.DurationVar(&opt.soak, "soak", 0, "attack vswitch and the kernel's bridge in every way at once for this `time`, in turns, and measure nothing but what their neighbours keep")
	fs.BoolVar(&opt.each, "each", false, "with -soak: one attack after the other, instead of all at once; those that take a whole CPU too")
	fs.Float64Var(&opt.fair, "fair", 0.9, "with -soak: fail when neighbours keep less than this `part` of the connections that they keep on the kernel's bridge, or a 99th percentile of more than twice its own")
	fs.StringVar(&opt.dir, "out", ".bench", "`directory` for the JSON")
	fs.BoolVar(&opt.markdown, "markdown", false, "write the result as Markdown instead of a table")
	fs.StringVar(&opt.show, "show", "", "measure nothing, show an earlier run's JSON `file`, or what -only and -kernel-only choose of it")
	if err := fs.Parse(args); err != nil {
		return opt, err
	}
	rounds, window := 5, 2*time.Second
	switch {
	case opt.guard != "":
		opt.quick, rounds, window = true, 5, 500*time.Millisecond
	case opt.quick || opt.contention != "":
		rounds, window = 2, 300*time.Millisecond
	}
	if opt.ten {
		only, opt.kernelOnly = tenRows, true
	}
	opt.named = only != ""
	if opt.rounds == 0 {
		opt.rounds = rounds
	}
	if opt.window == 0 {
		opt.window = window
	}
	var err error
	opt.only, err = regexp.Compile("(?i)" + only)
	switch {
	case err != nil:
		return opt, fmt.Errorf("-only: %w", err)
	case fs.NArg() > 0:
		return opt, fmt.Errorf("%s: no arguments expected", fs.Arg(0))
	case opt.rounds < 1 || opt.rounds > 100:
		return opt, fmt.Errorf("-rounds %d: 1 to 100", opt.rounds)
	case opt.soak < 0 || opt.fair < 0 || opt.fair > 1:
		return opt, fmt.Errorf("-soak %v -fair %v: a time, and a part of 1", opt.soak, opt.fair)
	case opt.window < 100*time.Millisecond || opt.window > time.Minute:
		return opt, fmt.Errorf("-window %v: 100 ms to 1 min", opt.window)
	case opt.rival != rig.VSwitch && opt.rival != kernel:
		return opt, fmt.Errorf("-rival %s: vswitch or kernel", opt.rival)
	}
	return opt, nil
}

// tenRows are short connections by all paths, and what else can be said of two containers.
const tenRows = `^(containers|host|localhost|published|masquerade|hairpin)/TCP connect\+request @s$` +
	`|^containers/(TCP request/response @s|TCP bulk @s|64-byte frames|TCP connect\+request @s beside spinning processes)$`

// kernel as rival puts a scenario's baseline on both sides.
const kernel = "kernel"

func show(opt options) error {
	r, err := load(opt.show)
	if err != nil {
		return err
	}
	r.Compared = slices.DeleteFunc(r.Compared, func(c report.Comparison) bool {
		return !opt.only.MatchString(c.Scenario+"/"+c.Measure.Name) || opt.kernelOnly && rig.IsOther(c.Baseline)
	})
	r.Alone = slices.DeleteFunc(r.Alone, func(f report.Figure) bool { return !opt.only.MatchString(f.Scenario) })
	r.Curves = slices.DeleteFunc(r.Curves, func(c report.Curve) bool { return !opt.only.MatchString(c.Scenario) })
	if err := errors.Join(write(r, opt), export(r, opt)); err != nil {
		return err
	}
	return against(r, opt)
}

// load reads an earlier run.
func load(file string) (*report.Run, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := &report.Run{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

func measure(ctx context.Context, opt options) error {
	if os.Geteuid() != 0 {
		return errors.New("namespaces and packet sockets need root: run it with sudo")
	}
	if opt.rival == rig.VSwitch && opt.binary == "" {
		var err error
		if opt.binary, err = build(ctx, "vswitch"); err != nil {
			return err
		}
	}
	c := &campaign{
		opt: opt, progress: newProgress(os.Stderr),
		run: report.Run{
			Started: time.Now(), Subject: opt.rival, Rounds: opt.rounds,
			Window: opt.window.Seconds(), Machine: report.ThisMachine(),
		},
	}
	c.run.Machine.Blind = !rig.BridgeNetfilter()
	if err := look(&c.run.Machine); err != nil {
		return err
	}
	interrupted := c.measure(ctx)
	c.run.Seconds = time.Since(c.run.Started).Seconds()
	if err := write(&c.run, opt); err != nil {
		return err
	}
	file, err := save(&c.run, opt.dir)
	if err != nil {
		return err
	}
	if err := export(&c.run, opt); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "\n%.0f s, %d targets missed, written to %s\n", c.run.Seconds, c.run.Missed(), file)
	if interrupted != nil {
		return errors.New("interrupted: the table is not complete")
	}
	return against(&c.run, opt)
}

// look says how busy the machine is before anything is measured, and warns:
// rows are decided on an idle machine.
func look(m *report.Machine) (err error) {
	if m.Busy, err = gen.Busy(time.Second); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%s, %d cores, Linux %s; before the run %.2f cores are busy, load average %.2f\n",
		m.CPU, m.Cores, m.Kernel, m.Busy, m.Load)
	if m.Busy > 0.05*float64(m.Cores) {
		fmt.Fprintln(os.Stderr, "bench: WARNING: others are using this machine, which favours whoever needs fewer CPUs at a time: take these rows for a trial, not for a result")
	}
	return nil
}

// against compares r with the baseline that opt names, if any.
func against(r *report.Run, opt options) error {
	if opt.guard == "" {
		return nil
	}
	was, err := load(opt.guard)
	if err != nil {
		return err
	}
	worse, err := r.Regressions(was)
	if err != nil {
		return fmt.Errorf("%s: %w", opt.guard, err)
	}
	for _, w := range worse {
		fmt.Fprintln(os.Stderr, "worse:", w)
	}
	if len(worse) > 0 {
		return fmt.Errorf("%d ratios are worse than in %s beyond the noise", len(worse), opt.guard)
	}
	fmt.Fprintf(os.Stderr, "no ratio is worse than in %s beyond the noise\n", opt.guard)
	return nil
}

// export writes r to the files that were asked for.
func export(r *report.Run, opt options) error {
	var errs []error
	if opt.json != "" {
		errs = append(errs, create(opt.json, r.WriteJSON))
	}
	if opt.html != "" {
		errs = append(errs, create(opt.html, r.WriteHTML))
	}
	return errors.Join(errs...)
}

// build builds the vswitch of this module as bin/name and returns its path.
func build(ctx context.Context, name string, flags ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	dir := strings.TrimSpace(string(out))
	binary := filepath.Join(dir, "bin", name)
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build", "-buildvcs=false", "-o", binary}, flags...), "./cmd/vswitch")...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build vswitch: %w", err)
	}
	return binary, nil
}

func write(r *report.Run, opt options) error {
	if opt.markdown {
		return r.WriteMarkdown(os.Stdout)
	}
	return r.WriteTable(os.Stdout)
}

// save writes r to a file of its own in dir.
func save(r *report.Run, dir string) (string, error) {
	name := filepath.Join(dir, r.Started.UTC().Format("20060102-150405")+"-"+r.Subject+".json")
	return name, create(name, r.WriteJSON)
}

// create writes a file, its directory made if need be.
func create(name string, write func(io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
