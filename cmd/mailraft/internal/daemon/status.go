package daemon

import (
	"os"

	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/cmd/mailraft/internal/version"
)

// fillStatus adds what the daemon knows of itself to a status.
func (d *Daemon) fillStatus(s *adminpb.StatusReply) {
	s.Version = version.String()
	s.Hostname, s.Data, s.Mount = d.hostname, d.cfg.Data, d.cfg.Mount
	s.Started = d.started.Unix()
	s.ResidentBytes = resident(os.Getpid())
	s.LoginsFailed, s.LoginsDelayed = d.throttle.Counts()
	for _, l := range d.sockets {
		s.Listeners = append(s.Listeners, &adminpb.Listener{Protocol: string(l.Protocol), Address: l.Address})
	}
	for _, c := range d.children.Status() {
		p := &adminpb.Proxy{Name: c.Name, Pid: int64(c.PID), Since: c.Since.Unix(), Restarts: int64(c.Restarts), LastExit: c.LastExit}
		if c.PID != 0 {
			p.ResidentBytes = resident(c.PID)
		}
		s.Proxies = append(s.Proxies, p)
	}
}
