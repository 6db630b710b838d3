package dialog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// A Diagnosis is what a try of an agent showed.
type Diagnosis struct {
	OK          bool
	Environment string        // the one that answered, or was tried first
	Traces      int           // what a launch brought
	Took        time.Duration // of the launch
	Advice      string        // one sentence: what is well, or what to do and where
	Err         error         // nil when OK
}

// Live launches the agent once under a fresh id, as a call would, and deletes
// that conversation again. The flow's first turn runs, with all that it does.
func Live(ctx context.Context, c Config) Diagnosis {
	d, err := newClient(c)
	if err != nil {
		return Diagnosis{Advice: "Correct the voiceflow settings: " + strings.ReplaceAll(err.Error(), "\n", "; ") + ".", Err: err}
	}
	s, err := d.open(Caller{ID: "check-" + strings.ToLower(rand.Text())})
	if err != nil {
		return Diagnosis{Advice: "This is a fault of the bridge: " + err.Error() + ".", Err: err}
	}
	var diag Diagnosis
	heard := false
	info, err := s.Interact(ctx, Turn{Action: Launch(nil), Debug: true}, func(t Trace) error {
		diag.Traces++
		switch Interpret(t).Kind {
		case KindSpeak, KindAudio, KindCard, KindAction, KindForward, KindHandoff, KindCompletion, KindChunk:
			heard = true
		default:
		}
		return nil
	})
	diag.Environment, diag.Took, diag.Err = info.Environment, info.Took, err
	if err != nil {
		if d.automatic() {
			diag.Environment = d.environments[0]
		}
		diag.Advice = d.advice(err)
		return diag
	}
	_ = s.forget(ctx) // a conversation that is left over harms nobody
	if !heard {
		diag.Err = errors.New("the launch brought nothing to say")
		diag.Advice = fmt.Sprintf("The agent (%s) answers but says nothing at its start: connect a message step to the Start block in Voiceflow and publish.", info.Environment)
		return diag
	}
	diag.OK = true
	diag.Advice = fmt.Sprintf("The agent (%s) answered a launch with %d traces in %s.", info.Environment, diag.Traces, info.Took.Round(time.Millisecond))
	return diag
}

// advice says in one sentence what to do about err.
func (w *wire) advice(err error) string {
	var te *TurnError
	if !errors.As(err, &te) {
		return "Try again: " + err.Error() + "."
	}
	if te.Status == 0 {
		return w.unreachable(te)
	}
	environment := w.conf.Environment
	if w.automatic() {
		environment = "production, main or development"
	}
	message := strings.ToLower(te.Message)
	switch {
	case te.Status == 401, te.Status == 403, strings.Contains(message, "api key"), strings.Contains(message, "auth key"):
		if w.conf.generation().token {
			return "Create a personal access token (vfp_…) in Voiceflow's account settings and put it into voiceflow.api_key: the service does not accept the one it got, or it has expired."
		}
		return "Copy the Dialog API key (VF.DM.…) again from this agent's settings in Voiceflow and put it into voiceflow.api_key: the service does not accept the one it got."
	case strings.Contains(message, "not published"):
		return "Press Publish in Voiceflow: the agent has no published version" + inEnvironment(w.conf.Environment) + "."
	case strings.Contains(message, "version alias") || strings.Contains(message, "versionid"):
		return fmt.Sprintf("Compare voiceflow.api_key with the agent's settings in Voiceflow and voiceflow.environment (%s) with its environments: the service cannot find that version of this key's agent.", environment)
	case unknownEnvironment(te):
		return fmt.Sprintf("Publish the agent in Voiceflow, or name one of its environments in voiceflow.environment: there is no %s.", environment)
	case te.Status/100 == 3, te.Status == 404, te.Status == 405:
		return fmt.Sprintf("Correct voiceflow.url: %s is no Voiceflow runtime (%s).", w.conf.URL, te.Message)
	case te.Status == 429:
		return fmt.Sprintf("Wait %s and give this bridge a key of its own: this key's request limit is used up.", max(te.RetryAfter, time.Second).Round(time.Second))
	case te.Status == 408, te.Status == 504:
		return "Look for a slow step at the start of the flow in Voiceflow: the service gave up waiting for it."
	case te.Status >= 500:
		return fmt.Sprintf("Run the agent in Voiceflow's own test tool and try again: the service has an error (%s).", te.Message)
	case te.Status/100 == 2:
		return fmt.Sprintf("Correct voiceflow.url: what answers at %s is no Voiceflow runtime (%s).", w.conf.URL, te.Message)
	}
	return fmt.Sprintf("Check the agent in Voiceflow: the service refused the launch (%d %s).", te.Status, te.Message)
}

func inEnvironment(name string) string {
	if name == "" || name == EnvironmentAuto {
		return ""
	}
	return " in " + name
}

func (w *wire) unreachable(te *TurnError) string {
	var dns *net.DNSError
	switch {
	case errors.As(te.Err, &dns):
		return fmt.Sprintf("Check voiceflow.url and this machine's name servers: %s cannot be resolved.", dns.Name)
	case untrusted(te.Err):
		return fmt.Sprintf("Check voiceflow.url, and the clock and certificates of this machine: the certificate of %s is not trusted.", w.conf.URL)
	case errors.Is(te.Err, context.DeadlineExceeded), errors.Is(te.Err, errConnect):
		return fmt.Sprintf("Open the way to %s in the firewall or set HTTPS_PROXY: nothing answered in time.", w.conf.URL)
	}
	return fmt.Sprintf("Check voiceflow.url and the network: %s cannot be reached (%v).", w.conf.URL, te.Err)
}
