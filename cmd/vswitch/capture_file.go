package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// fileSink writes pcapng blocks to a file, or to several in turn. The first is
// made when the first block arrives: a capture that is refused leaves an older
// file as it was.
type fileSink struct {
	path  string
	size  int64 // a file this large is the last but one, 0 no limit
	files int   // before the first is written again, 0 no limit

	f       *os.File
	w       *bufio.Writer
	at      int64  // bytes of whole blocks in the file, and in w
	safe    int64  // of those, what is in the file
	turn    int    // files begun, less one
	opening []byte // the blocks that describe the packets, for further files
}

// Write takes one whole block.
func (s *fileSink) Write(block []byte) (int, error) {
	kind := blockKind(block)
	if s.size > 0 && (kind == blockSection || kind == blockInterface || kind == blockNames) {
		s.opening = append(s.opening, block...)
	}
	if s.f != nil && s.size > 0 && kind == blockPacket && s.at > s.size {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	if s.f == nil {
		if err := s.open(); err != nil {
			return 0, err
		}
	}
	n, err := s.w.Write(block)
	s.at += int64(n)
	return n, s.checked(err)
}

// Flush makes what came so far readable.
func (s *fileSink) Flush() error {
	if s.f == nil {
		return nil
	}
	if err := s.checked(s.w.Flush()); err != nil {
		return err
	}
	s.safe = s.at
	return nil
}

// checked leaves whole blocks in the file when the disk is full.
func (s *fileSink) checked(err error) error {
	if err != nil {
		_ = s.f.Truncate(s.safe) // the error to report is the first
	}
	return err
}

func (s *fileSink) open() (err error) {
	// Packets are nobody else's, whatever the umask says.
	if s.f, err = os.OpenFile(s.name(), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return fmt.Errorf("%w: name another file with -w", err)
	}
	if fi, err := s.f.Stat(); err == nil && fi.Mode().IsRegular() && fi.Mode().Perm()&0o077 != 0 {
		_ = s.f.Chmod(0o600) // one that was there; not every file system has modes
	}
	s.w, s.at, s.safe = bufio.NewWriterSize(s.f, 64<<10), 0, 0
	return nil
}

// next begins another file, with a copy of the descriptions.
func (s *fileSink) next() error {
	if err := s.Close(); err != nil {
		return err
	}
	if s.turn++; s.files > 0 && s.turn == s.files {
		s.turn = 0
	}
	if err := s.open(); err != nil {
		return err
	}
	n, err := s.w.Write(s.opening)
	s.at = int64(n)
	return s.checked(err)
}

// name is that of tcpdump: FILE, FILE1, FILE2 and so on, or with a number of
// files FILE00 to FILE99.
func (s *fileSink) name() string {
	digits := 0
	for n := s.files - 1; n > 0; n /= 10 {
		digits++
	}
	if s.turn == 0 && digits == 0 {
		return s.path
	}
	return fmt.Sprintf("%s%0*d", s.path, digits, s.turn)
}

// Close ends the file.
func (s *fileSink) Close() error {
	if s.f == nil {
		return nil
	}
	err := s.Flush()
	if cerr := s.f.Close(); err == nil {
		err = cerr
	}
	s.f = nil
	return err
}

// fileSize reads the size behind -C as tcpdump does: millions of bytes, or with
// a letter units of 1024, its square or cube.
func fileSize(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	unit := int64(1_000_000)
	if i := strings.IndexByte("kmg", text[len(text)-1]|0x20); i >= 0 {
		unit, text = 1<<(10*(i+1)), text[:len(text)-1]
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err == nil && n <= 0 {
		err = strconv.ErrRange
	}
	return n * unit, err
}
