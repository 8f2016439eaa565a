package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

const floorArg = "floor"

// floorFiles files of floorSize octets each are in the floor's only folder: "0", "1", ...
const (
	floorFiles = 4096
	floorSize  = 8 << 10
)

// floor is the file system that does nothing: its tree is a number, its files are one buffer.
type floor struct {
	fuse.RawFileSystem
	content []byte
}

// serveFloor mounts the floor at path, says so, and unmounts it when its input ends.
func serveFloor(path string, in io.Reader, out io.Writer) error {
	f := &floor{fuse.NewDefaultRawFileSystem(), message(floorSize, 0)}
	s, err := fuse.NewServer(f, path, &fuse.MountOptions{AllowOther: true, DirectMount: true, DisableXAttrs: true, Name: "floor", FsName: "floor"})
	if err != nil {
		return err
	}
	go s.Serve()
	if err := s.WaitMount(); err != nil {
		return err
	}
	fmt.Fprintln(out, "mounted")
	io.Copy(io.Discard, in)
	return s.Unmount()
}

const first = 2 // the node of file 0; the root is 1

func (f *floor) attr(node uint64, out *fuse.Attr) {
	*out = fuse.Attr{Ino: node, Mode: syscall.S_IFREG | 0o644, Nlink: 1, Size: floorSize, Blksize: 4096, Mtime: 1}
	if node == fuse.FUSE_ROOT_ID {
		out.Mode, out.Nlink, out.Size = syscall.S_IFDIR|0o755, 2, 0
	}
}

func (f *floor) Lookup(_ <-chan struct{}, _ *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	n, err := strconv.ParseUint(name, 10, 32)
	if err != nil || n >= floorFiles {
		return fuse.ENOENT
	}
	out.NodeId = n + first
	f.attr(out.NodeId, &out.Attr)
	out.SetEntryTimeout(time.Hour)
	out.SetAttrTimeout(time.Hour)
	return fuse.OK
}

func (f *floor) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	f.attr(in.NodeId, &out.Attr)
	out.SetTimeout(time.Hour)
	return fuse.OK
}

func (f *floor) Open(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH
	return fuse.OK
}

func (f *floor) Read(_ <-chan struct{}, in *fuse.ReadIn, _ []byte) (fuse.ReadResult, fuse.Status) {
	at := min(in.Offset, floorSize)
	return fuse.ReadResultData(f.content[at:min(at+uint64(in.Size), floorSize)]), fuse.OK
}

// startFloor mounts the floor and answers its files, and how to take it away.
func (b *bench) startFloor() (files []string, stop func() error, err error) {
	dir, err := os.MkdirTemp(b.dir, "floor-")
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command("/proc/self/exe", floorArg, dir)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it ends when its input does
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	stop = func() error {
		in.Close()
		return cmd.Wait()
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "mounted\n" {
		stop()
		return nil, nil, fmt.Errorf("floor at %s: %q, %v", dir, line, err)
	}
	for i := range floorFiles {
		files = append(files, fmt.Sprint(dir, "/", i))
	}
	return files, stop, nil
}
