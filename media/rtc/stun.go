package rtc

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/pion/ice/v4"
	"go.uber.org/zap"
)

const (
	stunEvery = 20 * time.Second // keeps a NAT's mapping open as well
	stunWait  = 2 * time.Second
	stunPort  = "3478"
)

// watchMapping asks STUN servers how our UDP port looks from outside, all the
// time: its mapping is the same for all peers, so that none of them waits for it.
func (a *API) watchMapping(ctx context.Context, mux *ice.UniversalUDPMuxDefault, servers []string) {
	tick := time.NewTicker(stunEvery)
	defer tick.Stop()
	for {
		found := false
		for _, s := range servers {
			if found = a.askMapping(ctx, mux, s); found || ctx.Err() != nil {
				break
			}
		}
		if !found {
			a.mapped.Store(nil)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// askMapping asks one server, host:port without its scheme.
func (a *API) askMapping(ctx context.Context, mux *ice.UniversalUDPMuxDefault, server string) bool {
	server, _, _ = strings.Cut(server, "?")
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		host, port = strings.Trim(server, "[]"), stunPort
	}
	network := "ip"
	if local, ok := a.conf.UDP.LocalAddr().(*net.UDPAddr); ok && local.IP.To4() != nil {
		network = "ip4"
	}
	ctx, cancel := context.WithTimeout(ctx, stunWait)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, network, host)
	if err == nil && len(addrs) > 0 {
		number, portErr := net.DefaultResolver.LookupPort(ctx, "udp", port)
		if portErr == nil {
			to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(addrs[0].Unmap(), uint16(number)))
			got, askErr := mux.GetXORMappedAddrContext(ctx, to, stunWait)
			if askErr == nil {
				if ip, ok := netip.AddrFromSlice(got.IP); ok {
					mapped := netip.AddrPortFrom(ip.Unmap(), uint16(got.Port))
					a.mapped.Store(&mapped)
					return true
				}
			}
			err = askErr
		}
	}
	if ctx.Err() == nil || err != nil {
		a.log.Debug("stun server does not answer", zap.String("server", server), zap.Error(err))
	}
	return false
}
