// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package sibling

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/decide/limit"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// group is instances that are asked by hand, at a time that goes by hand.
type group struct {
	t      *testing.T
	now    time.Time
	shares []*Share
	meters []map[string]*limit.Meter
	last   map[[2]int]string
}

func newGroup(t *testing.T, n int) *group {
	g := &group{t: t, now: noon, last: map[[2]int]string{}}
	for range n {
		g.join()
	}
	return g
}

func (g *group) join() {
	i := len(g.meters)
	g.meters = append(g.meters, map[string]*limit.Meter{"a": {}, "b": {}})
	g.shares = append(g.shares, NewShare(func() map[string]*limit.Meter { return g.meters[i] }, func() time.Time { return g.now }))
}

// ask has one ask another, and returns how many reports that took.
func (g *group) ask(i, j int) int {
	g.t.Helper()
	for n := 1; ; n++ {
		q, err := g.shares[i].question(g.last[[2]int{i, j}])
		if err != nil {
			g.t.Fatal(err)
		}
		data, err := g.shares[j].Report(q)
		if err != nil {
			g.t.Fatal(err)
		}
		name, other, more, err := g.shares[i].take(data)
		if err != nil || other != (i != j) {
			g.t.Fatalf("%v %v", other, err)
		}
		g.last[[2]int{i, j}] = name
		if !more {
			return n
		}
	}
}

func (g *group) all() {
	g.t.Helper()
	for i := range g.shares {
		for j := range g.shares {
			g.ask(i, j) // oneself among them
		}
	}
}

// TestNoMoreIsLetThroughThanIsDocumented plays callers of every kind, and checks
// the bound that Share documents at every step; and that nobody is kept out for
// nothing.
func TestNoMoreIsLetThroughThanIsDocumented(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		n := 1 + r.IntN(6)
		g := newGroup(t, n)
		rate, burst := float64(1+r.IntN(50)), 1+r.IntN(100)
		th := &snapshot.Throttle{Rate: rate, Burst: burst, Interval: (&model.Throttle{Rate: rate, Burst: burst}).Interval()}
		q := &snapshot.Quota{Limit: int64(100 + r.IntN(4000)), Period: model.PeriodDay}
		g.all()
		through, used, lag := 0, int64(0), 0.0
		const step = 20 * time.Millisecond
		skew := r.IntN(n)
		last := 0
		for i := range 60 * 50 {
			g.now = g.now.Add(step)
			lag += step.Seconds()
			if lag >= (Interval + fresh).Seconds() {
				g.all()
				lag = 0
			}
			for range 3 {
				at := r.IntN(n)
				if seed%2 == 0 {
					at = skew // all callers come to one
				}
				if g.meters[at]["a"].Take(th, g.now) {
					through++
				}
				if g.meters[at]["b"].Use(q, g.now) {
					used++
					last = i
				}
			}
			const longest = 1.1 + 0.02
			over := float64(n-1) * (float64(burst) + rate*longest)
			if most := float64(burst) + rate*g.now.Sub(noon).Seconds() + over; float64(through) > most {
				t.Fatalf("seed %d: %d of %d instances after %s, want at most %.0f", seed, through, n, g.now.Sub(noon), most)
			}
			// Three calls a step come to the quota, all in one lag at the most.
			if most := q.Limit + int64(3*longest/step.Seconds()) + 3; used > most {
				t.Fatalf("seed %d: a quota of %d lets %d through", seed, q.Limit, used)
			}
		}
		if least := rate * 59 * 0.9; float64(through) < min(least, 3*60*50*0.9) {
			t.Errorf("seed %d: %d instances let %d through, of %.0f", seed, n, through, least)
		}
		if used < q.Limit {
			t.Errorf("seed %d: %d of %d used, the last at step %d", seed, used, q.Limit, last)
		}
	}
}

func TestANewInstanceLearnsWhatIsUsedUp(t *testing.T) {
	g := newGroup(t, 1)
	q := &snapshot.Quota{Limit: 5, Period: model.PeriodDay}
	th := &snapshot.Throttle{Rate: 1, Burst: 100, Interval: 1e9}
	for range 5 {
		g.meters[0]["b"].Use(q, g.now)
		g.meters[0]["a"].Take(th, g.now)
	}
	g.join()
	g.ask(1, 0)
	if g.meters[1]["b"].Use(q, g.now) {
		t.Error("the quota is used up elsewhere")
	}
	b, _ := g.meters[1]["a"].State()
	if g.meters[1]["a"].Take(th, g.now); limit.Tokens(th, b, g.now.UnixNano()) != 100 {
		t.Error("it pays for what was taken before it was there")
	}
	// What came while they did not hear each other is not owed, what is used up is.
	g.now = g.now.Add(time.Minute)
	for range 50 {
		g.meters[0]["a"].Take(th, g.now)
	}
	g.ask(1, 0)
	if n, charged := g.shares[1].State(); n != 1 || charged != 5 {
		t.Errorf("%d instances, %d requests charged", n, charged)
	}
	g.now = g.now.Add(stale + time.Second)
	if n, _ := g.shares[1].State(); n != 0 {
		t.Error("it shares with who is not heard of")
	}
	g.now = g.now.Add(gone)
	if g.shares[1].forget(); len(g.shares[1].others) > 0 {
		t.Error("who is gone is not forgotten")
	}
}

func TestAnInstanceThatCountsOnIsNotChargedTwice(t *testing.T) {
	g := newGroup(t, 2)
	q := &snapshot.Quota{Limit: 100, Period: model.PeriodDay}
	th := &snapshot.Throttle{Rate: 1, Burst: 100, Interval: 1e9}
	use := func(i, n int) {
		for range n {
			g.meters[i]["b"].Use(q, g.now)
			g.meters[i]["a"].Take(th, g.now)
		}
	}
	left := func(i int, want int64) {
		t.Helper()
		if _, c := g.meters[i]["b"].State(); q.Limit-limit.Used(q, c, g.now) != want {
			t.Errorf("of instance %d, %d are left, want %d", i, q.Limit-limit.Used(q, c, g.now), want)
		}
	}
	g.shares[1].Kept = "the file of 1"
	use(0, 10)
	use(1, 20)
	g.all()
	left(0, 70)
	// It ends after 5 more; of these the file has 2.
	use(1, 2)
	_, kept := g.meters[1]["b"].Counted()
	use(1, 3)
	g.now = g.now.Add(2 * time.Second)
	g.join()
	g.shares[2].Kept = g.shares[1].Kept
	g.meters[2]["b"] = limit.NewMeter(0, kept)
	g.shares, g.meters = []*Share{g.shares[0], g.shares[2]}, []map[string]*limit.Meter{g.meters[0], g.meters[2]}
	at := g.meters
	g.shares[1].Meters = func() map[string]*limit.Meter { return at[1] }
	g.last = map[[2]int]string{{0, 1}: g.last[[2]int{0, 1}]}
	g.all()
	left(0, 68)
	left(1, 68)
	use(1, 1)
	g.now = g.now.Add(time.Second)
	g.all()
	left(0, 67)
	left(1, 67)
	if n := len(g.shares[0].others); n != 1 {
		t.Errorf("%d others are known", n)
	}
	b, _ := g.meters[0]["a"].State()
	if n := limit.Tokens(th, b, g.now.UnixNano()); n != 92 { // 10 were taken here and 1 there since it is known; 3 have come back
		t.Errorf("%d tokens are left", n)
	}
}

func TestALimitThatComesAndGoesIsNotChargedTwice(t *testing.T) {
	g := newGroup(t, 2)
	th := &snapshot.Throttle{Rate: 1, Burst: 100, Interval: 1e9}
	take := func(n int) {
		for range n {
			g.meters[0]["a"].Take(th, g.now)
		}
	}
	charged := func(want int64) {
		t.Helper()
		g.now = g.now.Add(time.Second)
		g.ask(1, 0)
		if _, n := g.shares[1].State(); n != want {
			t.Errorf("%d charged, want %d", n, want)
		}
	}
	charged(0)
	take(10)
	charged(10)
	charged(10)
	g.meters[0]["a"].Return(th)
	charged(10)
	take(1)
	charged(10) // in place of what was given back
	was := g.meters[0]
	g.meters[0] = map[string]*limit.Meter{"b": was["b"]}
	charged(10)
	g.meters[0] = map[string]*limit.Meter{"a": {}, "b": was["b"]}
	take(3)
	charged(13)
	// One that the other has later than this one.
	had := g.meters[1]
	g.meters[1] = map[string]*limit.Meter{"b": had["b"]}
	take(20)
	charged(13)
	g.meters[1] = had
	take(1)
	charged(14)
	g.shares[0].self = "another that was started there"
	g.meters[0] = map[string]*limit.Meter{"a": {}}
	clear(g.shares[0].mine)
	charged(14)
	take(2)
	charged(16)
}

// TestAQuotaOfAnotherPeriodIsSharedAnew has a quota changed from one sort of period to
// another whose numbers are lower, which gives it another name.
func TestAQuotaOfAnotherPeriodIsSharedAnew(t *testing.T) {
	g := newGroup(t, 2)
	day, week := &snapshot.Quota{Limit: 100, Period: model.PeriodDay}, &snapshot.Quota{Limit: 100, Period: model.PeriodWeek}
	count := func(q *snapshot.Quota, want int64) {
		t.Helper()
		name := snapshot.KeyMeter("k", q.Period)
		for i := range g.meters {
			if g.meters[i][name] == nil {
				g.meters[i] = map[string]*limit.Meter{name: {}}
			}
		}
		for range 5 {
			for i := range g.meters {
				g.meters[i][name].Use(q, g.now)
			}
			g.now = g.now.Add(Interval)
			g.all()
		}
		for i := range g.meters {
			if _, c := g.meters[i][name].State(); limit.Used(q, c, g.now) != want {
				t.Errorf("%d has counted %d of a %s, want %d", i, limit.Used(q, c, g.now), q.Period, want)
			}
		}
	}
	count(day, 10)
	count(week, 10)
}

func TestManyLimitsAreToldInParts(t *testing.T) {
	g := newGroup(t, 2)
	q := &snapshot.Quota{Limit: 5, Period: model.PeriodDay}
	const many = maxEntries + 100
	for i := range g.meters {
		for k := range many {
			g.meters[i][fmt.Sprint(k)] = &limit.Meter{}
		}
	}
	for k := range many {
		g.meters[0][fmt.Sprint(k)].Use(q, g.now)
	}
	if n := g.ask(1, 0); n != 2 {
		t.Errorf("%d reports", n)
	}
	if _, n := g.shares[1].State(); n != many {
		t.Errorf("%d of %d", n, many)
	}
	g.now = g.now.Add(time.Second)
	g.meters[0]["7"].Use(q, g.now)
	question, _ := g.shares[1].question(g.last[[2]int{1, 0}])
	data, err := g.shares[0].Report(question)
	var r report
	if err != nil || json.Unmarshal(data, &r) != nil || len(r.Entries) != 1 || r.Entries[0].Name != "7" {
		t.Errorf("what has changed is %d: %v", len(r.Entries), err)
	}
}

func TestAQuestionForLimitsIsNoneForAnythingElse(t *testing.T) {
	k := key(t, "one")
	from := []byte(`{"cursor":7}`)
	q, err := k.ask(limits, from)
	if err != nil {
		t.Fatal(err)
	}
	const encoded = "eyJjdXJzb3IiOjd9"
	asked, question, err := k.ReadLimits(q.Header(), encoded)
	if err != nil || string(question) != string(from) {
		t.Fatalf("%q %v", question, err)
	}
	sealed, err := asked.Answer([]byte("counts"))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := q.Open(sealed); err != nil || string(plain) != "counts" {
		t.Errorf("%q %v", plain, err)
	}
	if _, err := k.Read(q.Header()); err == nil {
		t.Error("it is answered with a configuration")
	}
	if _, _, err := k.ReadLimits(q.Header(), strings.Replace(encoded, "7", "x", 1)+"eyJ9"); err == nil {
		t.Error("what is asked can be changed on the way")
	}
	if _, _, err := key(t, "two").ReadLimits(q.Header(), encoded); err == nil {
		t.Error("a stranger is answered")
	}
	other, err := k.Ask()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := k.ReadLimits(other.Header(), ""); err == nil {
		t.Error("a question for the configuration is answered with counts")
	}
}
