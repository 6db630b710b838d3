package app

import (
	"slices"
	"strings"
	"time"

	"github.com/ivrbridge/ivrbridge/internal/call"
	"github.com/ivrbridge/ivrbridge/internal/record"
)

// recordOf is what is kept of a call.
func recordOf(r call.Result) record.Record {
	rec := record.Record{
		ID: r.Info.ID, SIPCallID: r.Info.SIPCallID, Session: r.Session, Trunk: r.Info.Trunk, Agent: r.Agent,
		Direction: r.Info.Direction, Peer: r.Info.Source, From: r.Info.Caller, FromName: r.Info.Name, Anonymous: r.Info.Anonymous,
		To: r.Info.Called, DivertedFrom: r.Info.Diverted,
		Began: r.Began, Answered: r.Answered, Ended: r.Ended,
		Class: record.Class(r.Class), Why: r.Why, EndedBy: endedBy(r.Class),
		Media: record.Media{
			Received: r.Media.Received, Sent: r.Media.Sent, Lost: r.Media.Lost, Late: r.Media.Late, Duplicates: r.Media.Duplicates,
			Rejected: r.Media.Rejected.Source, JitterSeconds: record.Seconds(r.Media.Jitter),
		},
		Usage: record.Usage{Turns: len(r.Turns), Digits: r.Keys, BargeIns: r.BargeIns},
	}
	rec.Reason = string(rec.Class)
	if !r.Answered.IsZero() {
		rec.SetupSeconds = record.Seconds(r.Answered.Sub(r.Began))
		rec.DurationSeconds = record.Seconds(r.Ended.Sub(r.Answered))
	}
	var responses []time.Duration
	for i, t := range r.Turns {
		rec.Turns = append(rec.Turns, turnOf(t, r.Began))
		if t.Response > 0 {
			responses = append(responses, t.Response)
		}
		if i == 0 && t.Latency > 0 {
			rec.Latency.FirstAudioSeconds = record.Seconds(t.At.Add(t.Latency).Sub(r.Answered))
		}
		if t.Action == "no-reply" {
			rec.Usage.NoReplies++
		}
		for _, s := range t.Agent {
			rec.Usage.SpokenCharacters += len(s)
		}
	}
	if len(responses) > 0 {
		slices.Sort(responses)
		rec.Latency.ResponseP50Seconds = record.Seconds(responses[len(responses)/2])
		rec.Latency.ResponseP95Seconds = record.Seconds(responses[min(len(responses)-1, len(responses)*95/100)])
		rec.Latency.ResponseMaxSeconds = record.Seconds(responses[len(responses)-1])
	}
	for _, h := range r.Handovers {
		rec.Transfers = append(rec.Transfers, record.Transfer{
			Began: h.Began, Seconds: record.Seconds(h.Took), Target: h.Target, Mode: string(h.Mode),
			Outcome: string(h.Outcome), Cause: h.Cause, Status: h.Status,
		})
	}
	return rec
}

func turnOf(t call.Turn, began time.Time) record.Turn {
	out := record.Turn{
		AtSeconds: record.Seconds(t.At.Sub(began)), Input: inputOf(t), Said: t.Caller, Heard: strings.Join(t.Agent, " "),
		Outcome: "answered", Error: t.Error, FirstSeconds: record.Seconds(t.Latency), ResponseSeconds: record.Seconds(t.Response),
	}
	switch {
	case t.Error != "":
		out.Outcome = "error"
	case t.Action == "no-reply":
		out.Outcome = "no_input"
	}
	return out
}

func inputOf(t call.Turn) string {
	switch {
	case t.Action == "launch":
		return "launch"
	case t.Action == "no-reply":
		return "no_reply"
	case t.Keyed:
		return "keys"
	case t.Caller != "":
		return "speech"
	}
	return "action"
}

func endedBy(c call.Class) string {
	switch c {
	case call.ClassCallerHangup:
		return "caller"
	case call.ClassCompleted:
		return "agent"
	case call.ClassClientError:
		return "trunk"
	case call.ClassTransferred, call.ClassServerError, call.ClassUpstream, call.ClassMediaTimeout:
	}
	return "bridge"
}
