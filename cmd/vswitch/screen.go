package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// screen draws on a terminal: on its alternate screen, so that what stood there
// comes back, with keys read one by one.
type screen struct {
	out    *os.File
	keys   chan byte
	resize chan os.Signal
	undo   func()
}

// openScreen takes the terminal over until close. Keys are read when stdin is a
// terminal.
func openScreen(ctx context.Context, out *os.File, stdin io.Reader) (*screen, error) {
	s := &screen{out: out, keys: make(chan byte), resize: make(chan os.Signal, 1), undo: func() {}}
	if in, ok := stdin.(*os.File); ok && isTerminal(in) {
		was, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS)
		if err != nil {
			return nil, err
		}
		raw := *was
		raw.Lflag &^= unix.ICANON | unix.ECHO
		raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 0, 1 // a read ends after 0.1 s, so that its goroutine does
		if err := unix.IoctlSetTermios(int(in.Fd()), unix.TCSETS, &raw); err != nil {
			return nil, err
		}
		ctx, cancel := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() { defer close(ended); s.readKeys(ctx, in) }()
		s.undo = func() {
			cancel()
			<-ended
			unix.IoctlSetTermios(int(in.Fd()), unix.TCSETS, was)
		}
	}
	signal.Notify(s.resize, unix.SIGWINCH)
	_, err := io.WriteString(out, "\x1b[?1049h\x1b[?25l")
	if err != nil {
		s.close()
	}
	return s, err
}

func (s *screen) close() {
	signal.Stop(s.resize)
	io.WriteString(s.out, "\x1b[?25h\x1b[?1049l")
	s.undo()
}

// readKeys passes keys on until ctx ends.
func (s *screen) readKeys(ctx context.Context, in *os.File) {
	fd := int(in.Fd())
	b := make([]byte, 1)
	for ctx.Err() == nil {
		n, err := unix.Read(fd, b)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		if n != 1 {
			continue
		}
		select {
		case s.keys <- b[0]:
		case <-ctx.Done():
		}
	}
}

// show draws one picture, cut to the size of the terminal, at once: no flicker.
func (s *screen) show(ctx context.Context, draw func(context.Context, io.Writer, int) error) error {
	rows, cols := 24, 80
	if ws, err := unix.IoctlGetWinsize(int(s.out.Fd()), unix.TIOCGWINSZ); err == nil && ws.Row > 0 && ws.Col > 0 {
		rows, cols = int(ws.Row), int(ws.Col)
	}
	var text bytes.Buffer
	if err := draw(ctx, &text, rows); err != nil {
		return err
	}
	_, err := s.out.Write(picture(text.Bytes(), rows, cols))
	return err
}

// picture is what makes a terminal of a size show a text.
func picture(text []byte, rows, cols int) []byte {
	out := []byte("\x1b[H")
	lines := bytes.Split(bytes.TrimRight(text, "\n"), []byte("\n"))
	for i := range min(len(lines), rows) {
		line := lines[i]
		for n, width := 0, 0; n < len(line); width++ {
			_, size := utf8.DecodeRune(line[n:])
			if width == cols {
				line = line[:n]
				break
			}
			n += size
		}
		if i > 0 {
			out = append(out, "\r\n"...)
		}
		out = append(out, line...)
		out = append(out, "\x1b[K"...)
	}
	return append(out, "\x1b[J"...)
}

// wait returns when the next picture is due, false when the user has had enough.
func (s *screen) wait(ctx context.Context, every time.Duration) bool {
	due := time.NewTimer(every)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case k := <-s.keys:
			if k == 'q' || k == 'Q' {
				return false
			}
		case <-s.resize:
			return true
		case <-due.C:
			return true
		}
	}
}
