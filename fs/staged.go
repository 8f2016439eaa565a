package fs

import (
	"sort"
	"sync"
	"syscall"

	"mailraft/raftstore/tree"
)

// staged holds the names in the tmp/ directories, which are seen on this mount alone. The tree has their sub-directories.
type staged struct {
	files *files

	mu   sync.Mutex // held for map operations; before the locks of files
	dirs map[tree.Ino]map[string]*file
}

func newStaged(t *files) *staged { return &staged{files: t, dirs: map[tree.Ino]map[string]*file{}} }

// get finds a staged name, for the caller to put the file back; nil when there is none.
func (s *staged) get(dir tree.Ino, name string) *file {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.dirs[dir][name]
	if f != nil {
		s.files.hold(f)
	}
	return f
}

// add gives a file a staged name. The name takes over a use of the file: EEXIST.
func (s *staged) add(dir tree.Ino, name string, f *file) error {
	if err := checkName(name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	names := s.dirs[dir]
	if names == nil {
		names = map[string]*file{}
		s.dirs[dir] = names
	}
	if names[name] != nil {
		return syscall.EEXIST
	}
	names[name] = f
	f.named(+1)
	return nil
}

// remove takes a staged name away and answers its file, whose use it gives to the caller: ENOENT.
func (s *staged) remove(dir tree.Ino, name string) (*file, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.dirs[dir][name]
	if f == nil {
		return nil, syscall.ENOENT
	}
	s.delete(dir, name)
	f.named(-1)
	return f, nil
}

// delete is called with mu.
func (s *staged) delete(dir tree.Ino, name string) {
	delete(s.dirs[dir], name)
	if len(s.dirs[dir]) == 0 {
		delete(s.dirs, dir)
	}
}

// move renames a staged name, and answers the file that had the new one, whose use it gives to the caller. Two names of one file:
// nothing happens, as rename(2) has it. ENOENT; EEXIST with noReplace.
func (s *staged) move(from tree.Ino, old string, to tree.Ino, name string, noReplace bool) (replaced *file, err error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f, there := s.dirs[from][old], s.dirs[to][name]
	switch {
	case f == nil:
		return nil, syscall.ENOENT
	case there != nil && noReplace:
		return nil, syscall.EEXIST
	case there == f:
		return nil, nil
	}
	s.delete(from, old)
	if s.dirs[to] == nil {
		s.dirs[to] = map[string]*file{}
	}
	s.dirs[to][name] = f
	if there != nil {
		there.named(-1)
	}
	return there, nil
}

// exchange swaps two staged names: ENOENT.
func (s *staged) exchange(a tree.Ino, nameA string, b tree.Ino, nameB string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	fa, fb := s.dirs[a][nameA], s.dirs[b][nameB]
	if fa == nil || fb == nil {
		return syscall.ENOENT
	}
	s.dirs[a][nameA], s.dirs[b][nameB] = fb, fa
	return nil
}

// stagedName is a name of a tmp/ as a listing shows it.
type stagedName struct {
	name string
	ino  tree.Ino
	mode uint32
}

// list answers the directory's staged names, sorted.
func (s *staged) list(dir tree.Ino) []stagedName {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]stagedName, 0, len(s.dirs[dir]))
	for name, f := range s.dirs[dir] {
		f.mu.Lock()
		list = append(list, stagedName{name, f.ino, f.stat.Mode})
		f.mu.Unlock()
	}
	sort.Slice(list, func(i, j int) bool { return list[i].name < list[j].name })
	return list
}

// used tells whether the directory has staged names.
func (s *staged) used(dir tree.Ino) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.dirs[dir]) > 0
}

// takenName is a staged name that was taken away, and its file.
type takenName struct {
	dir  tree.Ino
	name string
	file *file
}

// take takes away the names that which picks, and answers them with their files, whose uses it gives to the caller. which is called
// with mu.
func (s *staged) take(which func(dir tree.Ino, f *file) bool) []takenName {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []takenName
	for dir, names := range s.dirs {
		for name, f := range names {
			if which(dir, f) {
				f.named(-1)
				s.delete(dir, name)
				list = append(list, takenName{dir, name, f})
			}
		}
	}
	return list
}

// dropStaged gives up the staged names that which picks.
func (m *mount) dropStaged(which func(dir tree.Ino, f *file) bool) {
	for _, n := range m.staged.take(which) {
		m.inval.entry(n.dir, n.name)
		m.put(n.file)
	}
}

// named counts the file's staged names.
func (f *file) named(by int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.names = uint32(int(f.names) + by)
}

// checkName checks a staged name as package tree checks those that it holds.
func checkName(name string) error {
	switch {
	case len(name) > tree.MaxName:
		return syscall.ENAMETOOLONG
	case isReserved(name):
		return syscall.EPERM
	}
	return nil
}

func isReserved(name string) bool {
	return len(name) >= len(tree.ReservedPrefix) && name[:len(tree.ReservedPrefix)] == tree.ReservedPrefix
}
