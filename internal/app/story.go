package app

import (
	"time"

	"github.com/ivrbridge/ivrbridge/internal/admin"
	"github.com/ivrbridge/ivrbridge/internal/call/story"
	"github.com/ivrbridge/ivrbridge/media"
)

// A storyline publishes what happens in a call to those who watch it.
type storyline struct {
	feed   *admin.Feed
	teller *story.Teller // the call's goroutine owns it
	began  time.Time
}

func newStory(feed *admin.Feed) *storyline {
	return &storyline{feed: feed, teller: story.NewTeller()}
}

// begin says that the conversation begins now: its own times count from here.
func (s *storyline) begin() {
	s.began = time.Now()
	s.state("connecting", "", "")
}

// step is called by the call's goroutine.
func (s *storyline) step(st story.Step) {
	for _, t := range s.teller.Tell(st) {
		s.feed.Publish(t.Kind, t.Data)
	}
}

func (s *storyline) state(name, class, why string) {
	s.feed.Publish(story.KindState, story.State{T: s.now(), State: name, Why: why, Class: class})
}

func (s *storyline) now() story.Seconds {
	return story.Seconds(float64(time.Since(s.began).Round(time.Millisecond).Milliseconds()) / 1000)
}

// mediaFigures are the figures of the media as a page shows them.
type mediaFigures struct {
	T        story.Seconds `json:"t"`
	Jitter   float64       `json:"jitter_ms"`
	RTT      float64       `json:"rtt_ms"`
	Lost     uint64        `json:"lost"`
	Received uint64        `json:"received"`
	Sent     uint64        `json:"sent"`
}

func (s *storyline) figures(m media.Stats) {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	s.feed.Publish("stats", mediaFigures{
		T: s.now(), Jitter: ms(m.Jitter), RTT: ms(m.RTT), Lost: m.Lost, Received: m.Received, Sent: m.Sent,
	})
}
