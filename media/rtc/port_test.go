package rtc

import (
	"context"
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/transport/v4/packetio"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ivrbridge/ivrbridge/media"
)

func TestRingKeepsTheNewest(t *testing.T) {
	r := newRing(4)
	require.Nil(t, r.take())
	dropped := 0
	for i := range byte(10) {
		if r.put([]byte{i}, time.Time{}) {
			dropped++
		}
	}
	require.Equal(t, 6, dropped)
	for i := range byte(4) {
		require.Equal(t, []byte{6 + i}, r.take().data)
	}
	require.Nil(t, r.take())
	require.False(t, r.put([]byte{99}, time.Time{}))
	require.Equal(t, []byte{99}, r.take().data)
	require.Nil(t, r.take())
	r.put(make([]byte, 3000), time.Time{})
	require.Len(t, r.take().data, packetMost)
}

func TestRingBetweenGoroutines(t *testing.T) {
	const many = 200000
	r := newRing(8)
	var wg sync.WaitGroup
	dropped := uint64(0)
	wg.Go(func() {
		var b [8]byte
		for i := range uint64(many) {
			binary.BigEndian.PutUint64(b[:], i)
			if r.put(b[:], time.Time{}) {
				dropped++
			}
		}
	})
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	got, last := uint64(0), int64(-1)
	for over := false; ; {
		p := r.take()
		if p == nil {
			if over {
				break
			}
			select {
			case <-done:
				over = true
			default:
			}
			continue
		}
		n := int64(binary.BigEndian.Uint64(p.data))
		require.Greater(t, n, last, "in order, none twice")
		last = n
		got++
	}
	require.Equal(t, int64(many-1), last)
	require.LessOrEqual(t, got+dropped, uint64(many))
	require.Greater(t, got+dropped, uint64(many-16), "at most those that were overtaken count as neither")
}

func TestPortIsOneOfTheEngines(t *testing.T) {
	var p media.Port = &port{
		far: farRTP, in: newRing(2), out: newRing(2), bell: make(chan struct{}, 1),
		late: prometheus.NewCounter(prometheus.CounterOpts{Name: "x_total", Help: "None."}), closed: func() {},
	}
	_, _, err := p.Recv(make([]byte, 10))
	require.ErrorIs(t, err, media.ErrWouldBlock)
	now := time.Now()
	p.(*port).in.put([]byte("abc"), now)
	buf := make([]byte, 10)
	n, from, err := p.Recv(buf)
	require.NoError(t, err)
	require.Equal(t, "abc", string(buf[:n]))
	require.Equal(t, farRTP, from)
	at, ok := p.(*port).Stamp()
	require.True(t, ok)
	require.Equal(t, now, at)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_ = p.Send(buf, farRTP)
		p.(*port).out.take()
	}))
}

func TestReportsComeOnce(t *testing.T) {
	s := set(t, nil)
	p := s.peer(media.LegConfig{})
	in := newRing(8)
	k := newSink(p, packetio.RTCPBufferPacket, in)
	for _, part := range []rtcp.Packet{
		&rtcp.SenderReport{SSRC: 1, NTPTime: 5, Reports: []rtcp.ReceptionReport{{SSRC: 2}}},
		&rtcp.SourceDescription{Chunks: []rtcp.SourceDescriptionChunk{{Source: 1}}},
		&rtcp.ReceiverReport{SSRC: 1},
		&rtcp.PictureLossIndication{SenderSSRC: 1, MediaSSRC: 2},
	} {
		b, err := part.Marshal()
		require.NoError(t, err)
		for range 3 {
			_, err := k.Write(b)
			require.NoError(t, err)
		}
	}
	require.EqualValues(t, 200, in.take().data[1])
	require.EqualValues(t, 201, in.take().data[1])
	require.Nil(t, in.take())
}

func TestFaultEndsOnePeer(t *testing.T) {
	s := set(t, nil)
	p, other := s.peer(media.LegConfig{}), s.peer(media.LegConfig{})
	k := newSink(p, packetio.RTPBufferPacket, nil)
	_, err := k.Write([]byte{1})
	require.NoError(t, err)
	await(t, p.Context().Done())
	require.Equal(t, "fault", outcome(context.Cause(p.Context())))
	require.NoError(t, other.Context().Err())
}

func TestLogNamesNoAddresses(t *testing.T) {
	core, seen := observer.New(zapcore.InfoLevel)
	f := newLogFactory(zap.New(core))
	for range 10 {
		f.NewLogger("ice").Errorf("no pair for %s", "192.0.2.1")
		f.NewLogger("ice").Warnf("no pair for %s", "192.0.2.1")
		f.NewLogger(scopeUDP).Errorf("cannot read: %v", "192.0.2.1")
	}
	require.Equal(t, 1, seen.Len())
	require.Equal(t, "cannot read: %v", seen.All()[0].ContextMap()["kind"])
}

func TestMetrics(t *testing.T) {
	s := set(t, nil)
	p := s.peer(media.LegConfig{})
	value := func(name, label string) float64 {
		all, err := s.seen.Gather()
		require.NoError(t, err)
		for _, f := range all {
			if f.GetName() != name {
				continue
			}
			for _, m := range f.GetMetric() {
				if label == "" || m.GetLabel()[0].GetValue() == label {
					switch {
					case m.GetGauge() != nil:
						return m.GetGauge().GetValue()
					case m.GetHistogram() != nil:
						return float64(m.GetHistogram().GetSampleCount())
					default:
						return m.GetCounter().GetValue()
					}
				}
			}
		}
		return -1
	}
	require.Equal(t, 1, int(value("ivrbridge_rtc_peers", "")))
	b := open(t, browserConfig{})
	b.call(p)
	require.Equal(t, 1, int(value("ivrbridge_rtc_setup_seconds", "")))
	p.Close()
	until(t, "it is counted", func() bool { return value("ivrbridge_rtc_peers_total", "closed") == 1 })
	require.Zero(t, value("ivrbridge_rtc_peers", ""))
	require.Zero(t, value("ivrbridge_rtc_peers_total", "vanished"))
	require.Zero(t, value("ivrbridge_rtc_dropped_packets_total", "in"))
}
