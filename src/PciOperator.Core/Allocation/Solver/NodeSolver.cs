namespace PciOperator.Core;

/// <summary>Whether a node's shape can serve a claim, and from which buckets it is best served.</summary>
/// <remarks>
/// For each way to place the guest that the policies leave (none but one when its nodes are given), devices are counted by
/// the set of columns that they may serve, and Hall's theorem decides. Cards whose PF and whose VFs are both
/// wanted are decided by <see cref="CardSearch"/> first. The devices are then the cheapest that are enough: sets of
/// devices that can be matched are the independent sets of a matroid, where taking the cheapest that still fits is best.
/// </remarks>
internal readonly ref struct NodeSolver
{
    private const int UnknownNode = 1 << 12;
    private const int RemoteNode = 1 << 13;

    // What CardQuestion and CardSearch look at for each condition and card before they search.
    private const long NumbersOfQuestion = 12;

    private readonly NodeShape _shape;
    private readonly ClaimPlan _plan;
    private readonly ReadOnlySpan<int> _classMasks;
    private readonly Span<int> _numaMasks;
    private readonly Span<int> _bucketMasks;
    private readonly Span<sbyte> _modes;
    private readonly Span<int> _order;
    private readonly Span<int> _taken;
    private readonly Scratch _scratch;

    /// <param name="shape">The node.</param>
    /// <param name="plan">The claim.</param>
    /// <param name="classMasks">For each of the shape's classes, the columns that it may serve.</param>
    public NodeSolver(NodeShape shape, ClaimPlan plan, ReadOnlySpan<int> classMasks)
    {
        _shape = shape;
        _plan = plan;
        _classMasks = classMasks;
        _scratch = Scratch.Mine;
        _numaMasks = _scratch.NumaMasks(shape.NumaNodes.Length + 1);
        _bucketMasks = _scratch.BucketMasks(shape.Buckets.Length);
        _modes = _scratch.Modes(shape.Cards);
        _order = _scratch.Order(Math.Max(shape.Buckets.Length, shape.Cards))[..shape.Buckets.Length];
        _taken = _scratch.Taken(shape.Buckets.Length);
    }

    /// <summary>The columns that each bucket may serve in the answer.</summary>
    public ReadOnlySpan<int> BucketMasks => _bucketMasks;

    /// <summary>Buckets, best first.</summary>
    public ReadOnlySpan<int> Order => _order;

    /// <summary>How many devices the answer takes of each bucket.</summary>
    public ReadOnlySpan<int> Taken => _taken;

    /// <summary>Decides, within <see cref="WorkBounds.Deciding"/>.</summary>
    public Fit Solve()
    {
        _scratch.Begin(WorkBounds.Deciding);
        return SolveWithin();
    }

    /// <summary>Decides within what is left of a bound that has begun.</summary>
    public Fit SolveWithin()
    {
        int preferred = _plan.Guest.Kind == GuestNumaKind.None ? 0 : _plan.Preferred;
        int nearest = _plan.Guest.Kind == GuestNumaKind.Unknown ? _plan.Legacy | _plan.Socket : 0;
        bool ignored = false;
        // Most claims get all that they would like at the first try; where that is hard to tell, a quarter of the bound is spent on it.
        _scratch.Allow(_scratch.Left / 4);
        // For a guest that may go anywhere, devices on one node are better, asked for or not.
        if (nearest != 0 && Attempt(preferred | nearest, preferred, ref ignored) is { Served: true } together)
            return together;
        if (
            (nearest & _plan.Socket) != 0
            && (nearest & _plan.Legacy) != 0
            && Attempt(preferred | _plan.Legacy, preferred, ref ignored) is { Served: true } near
        )
        {
            return near;
        }

        if (preferred != 0 && Attempt(preferred, preferred, ref ignored) is { Served: true } whole)
            return whole;
        // Without any preference the claim asks for least: what can't be served so can't be served at all.
        long before = _scratch.Left;
        _scratch.Allow(before);
        bool tooComplex = false;
        Fit least = Attempt(0, preferred, ref tooComplex);
        if (!least.Served)
            return tooComplex ? Fit.TooComplex : Fit.Refused;
        return (preferred & (preferred - 1)) == 0 ? least : MostOf(preferred, before - _scratch.Left);
    }

    // What is preferred can't all be had: as much of it as can. A try leaves enough of the bound to repeat the best one so far.
    private Fit MostOf(int preferred, long costOfBest)
    {
        bool ignored = false;
        int kept = 0;
        for (int bit = 1; bit <= preferred; bit <<= 1)
        {
            if ((preferred & bit) == 0)
                continue;
            long before = _scratch.Left;
            _scratch.Allow(Math.Min(before / 2, before - costOfBest));
            if (Attempt(kept | bit, preferred, ref ignored).Served)
                (kept, costOfBest) = (kept | bit, before - _scratch.Left);
        }

        _scratch.Allow(_scratch.Left);
        return Attempt(kept, preferred, ref ignored);
    }

    /// <summary>
    /// For a guest without NUMA: whether an assignment exists, without choosing one, within what is left of a bound; null when that is not
    /// enough to tell.
    /// </summary>
    public bool? FitsAnywhere()
    {
        bool tooComplex = false;
        _numaMasks.Fill(_plan.All);
        _scratch.Allow(_scratch.Left);
        return Try(ref tooComplex) ? true
            : tooComplex ? null
            : false;
    }

    // One try: the columns in strict, whose policy is only a preference, are held to it.
    private Fit Attempt(int strict, int preferred, ref bool tooComplex)
    {
        bool? met = preferred == 0 ? null : (preferred & ~strict) == 0;
        int onNode = _plan.Required | _plan.Socket | strict;
        int together = _plan.Required | strict;
        if (_plan.Guest.Kind != GuestNumaKind.Unknown || onNode == 0)
        {
            SetNumaMasks(strict, -1);
            return Try(ref tooComplex) ? Pick(met, -1) : Fit.Refused;
        }

        // The fullest use of the smallest node that is enough: nodes by the devices that they have for these columns.
        Span<int> totals = _scratch.NumaTotals(_shape.NumaNodes.Length);
        totals.Clear();
        foreach (ref readonly Bucket b in _shape.Buckets.AsSpan())
        {
            if (b.Numa >= 0 && (_classMasks[b.Class] & onNode) != 0)
                totals[b.Numa] += b.Free;
        }

        // What all goes to one node must be there.
        for (int n = 0; n < totals.Length && together == onNode; n++)
            totals[n] = totals[n] < _plan.Demand[together] ? 0 : totals[n];
        while (true)
        {
            int best = -1;
            for (int n = 0; n < totals.Length; n++)
            {
                if (totals[n] > 0 && (best < 0 || totals[n] < totals[best]))
                    best = n;
            }

            if (best < 0)
                return Fit.Refused;
            totals[best] = 0;
            SetNumaMasks(strict, best);
            if (Try(ref tooComplex))
                return Pick(met, best);
        }
    }

    // numaMasks[1 + index of node] and numaMasks[0] for devices without one: the columns that may be served from there.
    private void SetNumaMasks(int strict, int guestNode)
    {
        if (_plan.Guest.Kind == GuestNumaKind.None)
        {
            _numaMasks.Fill(_plan.All);
            return;
        }

        int anywhere = (_plan.Preferred | _plan.Legacy) & ~strict;
        if (_plan.Guest.Kind == GuestNumaKind.Unknown)
        {
            _numaMasks[0] = anywhere;
            for (int n = 0; n < _shape.NumaNodes.Length; n++)
            {
                bool here = n == guestNode;
                bool socket = here || (guestNode >= 0 && !_shape.SocketUnknown && _shape.Sockets[n] == _shape.Sockets[guestNode]);
                _numaMasks[n + 1] = here ? _plan.All : anywhere | (socket ? _plan.Socket & ~strict : 0);
            }

            return;
        }

        int[] cells = _plan.Guest.NodeArray;
        int remote = _plan.Preferred & ~strict;
        _numaMasks[0] = remote | _plan.Legacy;
        for (int n = 0; n < _shape.NumaNodes.Length; n++)
        {
            bool here = Array.BinarySearch(cells, _shape.NumaNodes[n]) >= 0;
            _numaMasks[n + 1] = here ? _plan.All : remote | (_plan.Socket != 0 && SharesSocket(n, cells) ? _plan.Socket : 0);
        }
    }

    private bool SharesSocket(int n, int[] cells)
    {
        if (_shape.SocketUnknown)
            return false;
        foreach (int cell in cells)
        {
            int c = Array.BinarySearch(_shape.NumaNodes, cell);
            if (c >= 0 && _shape.Sockets[c] == _shape.Sockets[n])
                return true;
        }

        return false;
    }

    private bool Try(ref bool tooComplex)
    {
        ReadOnlySpan<Bucket> buckets = _shape.Buckets;
        _scratch.Spend(buckets.Length + _plan.Sets);
        if (_scratch.Allowance < 0)
        {
            tooComplex = true;
            return false;
        }

        bool cards = false;
        int total = 0;
        for (int i = 0; i < buckets.Length; i++)
        {
            ref readonly Bucket b = ref buckets[i];
            int mask = _classMasks[b.Class] & _numaMasks[b.Numa + 1];
            _bucketMasks[i] = mask;
            if (mask == 0)
                continue;
            total += b.Free;
            cards |= (b.Own & b.Parent) != -1;
        }

        if (total < _plan.Demand[_plan.All])
            return false;
        if (cards)
            return TryCards(ref tooComplex);
        if (_plan.Columns.Length == 1)
            return true;
        Span<int> counts = _scratch.Counts(_plan.Sets);
        counts.Clear();
        for (int i = 0; i < buckets.Length; i++)
            counts[_bucketMasks[i]] += buckets[i].Free;
        counts[0] = 0;
        Span<int> supply = _scratch.Supply(_plan.Sets);
        Hall.Supply(counts, supply);
        return Hall.Met(supply, _plan.Demand);
    }

    // modes: -1 undecided, 0 VFs, 1 PF.
    private bool TryCards(ref bool tooComplex)
    {
        const byte ownWanted = 1;
        const byte parentWanted = 2;
        ReadOnlySpan<Bucket> buckets = _shape.Buckets;
        Span<byte> sides = _scratch.Sides(_shape.Cards);
        sides.Clear();
        for (int i = 0; i < buckets.Length; i++)
        {
            Bucket b = buckets[i];
            if (_bucketMasks[i] == 0)
                continue;
            if (b.Own >= 0)
                sides[b.Own] |= ownWanted;
            if (b.Parent >= 0)
                sides[b.Parent] |= parentWanted;
        }

        for (int card = 0; card < _modes.Length; card++)
        {
            _modes[card] = (sides[card] & (ownWanted | parentWanted)) switch
            {
                ownWanted => 1,
                ownWanted | parentWanted => -1,
                _ => 0,
            };
        }

        return TryModes(ref tooComplex);
    }

    private bool Usable(Bucket b) => (b.Own < 0 || _modes[b.Own] == 1) && (b.Parent < 0 || _modes[b.Parent] == 0);

    // A VF in the group of another card's PF, both cards open.
    private bool IsLink(in Bucket b) => IsOpen(b.Own) && IsOpen(b.Parent);

    private bool IsOpen(int card) => card >= 0 && _modes[card] < 0;

    // Not usable, whatever is decided for the cards that are still open.
    private bool IsOut(Bucket b) => (b.Own >= 0 && _modes[b.Own] == 0) || (b.Parent >= 0 && _modes[b.Parent] == 1);

    private bool TryModes(ref bool tooComplex)
    {
        ReadOnlySpan<Bucket> buckets = _shape.Buckets;
        Span<int> counts = _scratch.Counts(_plan.Sets);
        counts.Clear();
        bool open = false;
        for (int i = 0; i < buckets.Length; i++)
        {
            Bucket b = buckets[i];
            if (_bucketMasks[i] == 0)
                continue;
            if (Usable(b))
                counts[_bucketMasks[i]] += b.Free;
            else
                open |= !IsOut(b);
        }

        Span<int> supply = _scratch.Supply(_plan.Sets);
        Hall.Supply(counts, supply);
        if (!open)
            return Hall.Met(supply, _plan.Demand);
        if (Hall.Met(supply, _plan.Demand))
        {
            CloseAll();
            return true;
        }

        // By card: what its PF's group adds to each set of columns, then what its VFs add.
        int width = _plan.Sets;
        _scratch.Spend((long)width * (buckets.Length + (3 * _modes.Length)));
        Span<int> vectors = _scratch.Vectors(_modes.Length * width * 2);
        vectors.Clear();
        for (int i = 0; i < buckets.Length; i++)
        {
            Bucket b = buckets[i];
            int mask = _bucketMasks[i];
            int at =
                mask == 0 || IsOut(b) || IsLink(b) ? -1
                : IsOpen(b.Own) ? b.Own * 2
                : IsOpen(b.Parent) ? (b.Parent * 2) + 1
                : -1;
            if (at < 0)
                continue;
            Span<int> vector = vectors.Slice(at * width, width);
            for (int set = 1; set < width; set++)
            {
                if ((set & mask) != 0)
                    vector[set] += b.Free;
            }
        }

        return TryFewestVfs(vectors, supply) || (AnyNumberOfPfs(vectors, supply) && Search(vectors, supply, ref tooComplex));
    }

    // Whether some number of cards in PF mode could do, by each column alone and by all: at best those k cards are in PF mode that a column
    // gains most from. Each further card gains it less, so the numbers that meet it are neighbours, from a least to a most.
    private bool AnyNumberOfPfs(ReadOnlySpan<int> vectors, ReadOnlySpan<int> fixedSupply)
    {
        int width = _plan.Sets;
        Span<int> gains = _scratch.Gains(_modes.Length);
        int least = 0;
        int most = _modes.Length;
        for (int column = 0; column <= _plan.Columns.Length; column++)
        {
            int set = column < _plan.Columns.Length ? 1 << column : _plan.All;
            int open = 0;
            int missing = _plan.Demand[set] - fixedSupply[set];
            for (int i = 0; i < _bucketMasks.Length; i++)
                missing -= (_bucketMasks[i] & set) != 0 && IsLink(_shape.Buckets[i]) ? _shape.Buckets[i].Free : 0;
            for (int card = 0; card < _modes.Length; card++)
            {
                if (_modes[card] >= 0)
                    continue;
                int vfs = vectors[(((card * 2) + 1) * width) + set];
                gains[open++] = vectors[(card * 2 * width) + set] - vfs;
                missing -= vfs;
            }

            gains[..open].Sort();
            int first = -1;
            int last = -1;
            for (int k = 0; k <= open; k++)
            {
                if (k > 0)
                    missing -= gains[open - k];
                if (missing > 0)
                    continue;
                first = first < 0 ? k : first;
                last = k;
            }

            least = Math.Max(least, first);
            most = Math.Min(most, last);
            if (first < 0 || least > most)
                return false;
        }

        return true;
    }

    // Most often it is enough to give up the PFs with the fewest VFs, as many as it takes.
    private bool TryFewestVfs(ReadOnlySpan<int> vectors, ReadOnlySpan<int> fixedSupply)
    {
        int width = _plan.Sets;
        Span<int> supply = _scratch.Counts(width);
        Span<int> cards = _scratch.Order(Math.Max(_modes.Length, _order.Length));
        fixedSupply.CopyTo(supply);
        int open = 0;
        for (int card = 0; card < _modes.Length; card++)
        {
            if (_modes[card] >= 0)
                continue;
            ReadOnlySpan<int> vfs = vectors.Slice(((card * 2) + 1) * width, width);
            int at = open++;
            for (; at > 0 && vectors[(((cards[at - 1] * 2) + 2) * width) - 1] > vfs[width - 1]; at--)
                cards[at] = cards[at - 1];
            cards[at] = card;
            for (int set = 1; set < width; set++)
                supply[set] += vfs[set];
        }

        for (int given = 0; given <= open; given++)
        {
            if (Hall.Met(supply, _plan.Demand))
            {
                for (int i = 0; i < open; i++)
                    _modes[cards[i]] = i < given ? (sbyte)1 : (sbyte)0;
                return true;
            }

            if (given == open)
                break;
            ReadOnlySpan<int> pf = vectors.Slice(cards[given] * 2 * width, width);
            ReadOnlySpan<int> vfs = vectors.Slice(((cards[given] * 2) + 1) * width, width);
            for (int set = 1; set < width; set++)
                supply[set] += pf[set] - vfs[set];
        }

        return false;
    }

    // A VF that shares its group with another card's PF is usable when that card is in PF mode and its own is not: a link. It is
    // one more thing to choose, which the modes of the two cards allow or not.
    private bool Search(ReadOnlySpan<int> vectors, ReadOnlySpan<int> fixedSupply, ref bool tooComplex)
    {
        int width = _plan.Sets;
        List<(int Own, int Parent)> links = [];
        for (int i = 0; i < _bucketMasks.Length; i++)
        {
            Bucket b = _shape.Buckets[i];
            if (_bucketMasks[i] != 0 && IsLink(b) && !links.Contains((b.Own, b.Parent)))
                links.Add((b.Own, b.Parent));
        }

        int rows = width + (links.Count * 2);
        _scratch.Spend(((long)links.Count * (_bucketMasks.Length + links.Count)) + (rows * (long)(_modes.Length + links.Count)));
        // What is begun is ended: no question whose making alone is beyond the bound.
        if (_scratch.Allowance < NumbersOfQuestion * rows * (_modes.Length + links.Count))
        {
            tooComplex = true;
            return false;
        }

        Span<int> need = _scratch.Rows(rows * 4);
        need.Clear();
        Span<int> given = need.Slice(rows, rows);
        Span<int> pf = need.Slice(rows * 2, rows);
        Span<int> vfs = need.Slice(rows * 3, rows);
        _plan.Demand.CopyTo(need);
        fixedSupply.CopyTo(given);
        for (int link = 0; link < links.Count; link++)
        {
            // own - link >= 0, and -parent - link >= -1.
            given[width + (link * 2) + 1] = 1;
        }

        CardSearch search = _scratch.CardSearch;
        CardQuestion question = search.Question;
        question.Begin(need[..rows], given, width);
        for (int card = 0; card < _modes.Length; card++)
        {
            if (_modes[card] >= 0)
                continue;
            pf.Clear();
            vectors.Slice(card * 2 * width, width).CopyTo(pf);
            vectors.Slice(((card * 2) + 1) * width, width).CopyTo(vfs);
            for (int link = 0; link < links.Count; link++)
            {
                if (links[link].Own == card)
                    pf[width + (link * 2)] = 1;
                if (links[link].Parent == card)
                    pf[width + (link * 2) + 1] = -1;
            }

            question.Add(card, pf, vfs);
        }

        vfs.Clear();
        for (int link = 0; link < links.Count; link++)
        {
            pf.Clear();
            pf[width + (link * 2)] = pf[width + (link * 2) + 1] = -1;
            for (int i = 0; i < _bucketMasks.Length; i++)
            {
                Bucket b = _shape.Buckets[i];
                for (int set = 1; (b.Own, b.Parent) == links[link] && set < width; set++)
                {
                    if ((set & _bucketMasks[i]) != 0)
                        pf[set] += b.Free;
                }
            }

            question.Add(_modes.Length + link, pf, vfs);
        }

        Span<sbyte> answer = links.Count == 0 ? _modes : new sbyte[_modes.Length + links.Count];
        _modes.CopyTo(answer);
        bool? found = search.Run(answer, _scratch.Allowance);
        _scratch.Spend(search.Work);
        tooComplex |= found is null;
        if (found is true)
            answer[.._modes.Length].CopyTo(_modes);
        return found is true;
    }

    // Nothing that is still open is needed.
    private void CloseAll()
    {
        for (int i = 0; i < _bucketMasks.Length; i++)
        {
            Bucket b = _shape.Buckets[i];
            if (_bucketMasks[i] != 0 && !Usable(b))
                _bucketMasks[i] = 0;
        }

        foreach (ref sbyte mode in _modes)
            mode = mode < 0 ? (sbyte)0 : mode;
    }

    // The cheapest devices that are enough, bucket by bucket.
    private Fit Pick(bool? preferenceMet, int guestNode)
    {
        ReadOnlySpan<Bucket> buckets = _shape.Buckets;
        _taken.Clear();
        Sort(guestNode);
        int left = _plan.Demand[_plan.All];
        long cost = 0;
        bool single = _plan.Columns.Length == 1;
        Span<int> picked = _scratch.Picked(_plan.Sets);
        picked.Clear();
        foreach (int i in _order)
        {
            Bucket b = buckets[i];
            int mask = _bucketMasks[i];
            if (mask == 0 || (_shape.Cards > 0 && !Usable(b)))
            {
                _bucketMasks[i] = 0;
                continue;
            }

            if (left == 0)
                continue;
            int take = Math.Min(b.Free, left);
            if (!single)
            {
                for (int set = mask; set < _plan.Sets; set = (set + 1) | mask)
                    take = Math.Min(take, _plan.Demand[set] - picked[set]);
                for (int set = mask; take > 0 && set < _plan.Sets; set = (set + 1) | mask)
                    picked[set] += take;
            }

            if (take <= 0)
                continue;
            _taken[i] = take;
            left -= take;
            cost += (long)take * (b.Cost + Penalty(b, guestNode));
        }

        return new Fit(true, false, preferenceMet, cost, guestNode);
    }

    private int Penalty(Bucket b, int guestNode)
    {
        if (_plan.Guest.Kind == GuestNumaKind.Unknown)
        {
            return guestNode < 0 || b.Numa == guestNode ? 0
                : b.Numa < 0 ? UnknownNode
                : RemoteNode;
        }

        if (_plan.Guest.Kind == GuestNumaKind.None)
            return 0;
        return b.Numa < 0 ? UnknownNode
            : Array.BinarySearch(_plan.Guest.NodeArray, _shape.NumaNodes[b.Numa]) >= 0 ? 0
            : RemoteNode;
    }

    // The shape's buckets are in order of cost; where the guest's place counts, the nearest come first.
    private void Sort(int guestNode)
    {
        bool places = _plan.Guest.Kind == GuestNumaKind.Nodes || guestNode >= 0;
        for (int i = 0; i < _order.Length; i++)
        {
            int at = i;
            if (places)
            {
                int penalty = Penalty(_shape.Buckets[i], guestNode);
                while (at > 0 && Penalty(_shape.Buckets[_order[at - 1]], guestNode) > penalty)
                {
                    _order[at] = _order[at - 1];
                    at--;
                }
            }

            _order[at] = i;
        }
    }
}

/// <summary>What a node's shape answers.</summary>
/// <param name="Served">Whether an assignment exists.</param>
/// <param name="GaveUp">Whether that is not known, beyond the limits.</param>
/// <param name="PreferenceMet">Whether every preferred policy is met; null without any.</param>
/// <param name="Cost">What the assignment spoils, to compare nodes by; small is better.</param>
/// <param name="GuestNode">For a guest whose place was open: the index of the NUMA node that the devices put it on; else -1.</param>
internal readonly record struct Fit(bool Served, bool GaveUp, bool? PreferenceMet, long Cost, int GuestNode)
{
    public static Fit Refused => new(false, false, null, 0, -1);

    public static Fit TooComplex => new(false, true, null, 0, -1);

    /// <summary>Not known, and not tried: the decision had no work left for it.</summary>
    public static Fit Untried => TooComplex with { NotLookedAt = true };

    /// <summary>Whether it is not known since nobody tried.</summary>
    public bool NotLookedAt { get; private init; }
}
