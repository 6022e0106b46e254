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

    private readonly NodeShape shape;
    private readonly ClaimPlan plan;
    private readonly ReadOnlySpan<int> classMasks;
    private readonly Span<int> numaMasks;
    private readonly Span<int> bucketMasks;
    private readonly Span<sbyte> modes;
    private readonly Span<int> order;
    private readonly Span<int> taken;
    private readonly Scratch scratch;

    /// <param name="shape">The node.</param>
    /// <param name="plan">The claim.</param>
    /// <param name="classMasks">For each of the shape's classes, the columns that it may serve.</param>
    public NodeSolver(NodeShape shape, ClaimPlan plan, ReadOnlySpan<int> classMasks)
    {
        this.shape = shape;
        this.plan = plan;
        this.classMasks = classMasks;
        scratch = Scratch.Mine;
        numaMasks = scratch.NumaMasks(shape.NumaNodes.Length + 1);
        bucketMasks = scratch.BucketMasks(shape.Buckets.Length);
        modes = scratch.Modes(shape.Cards);
        order = scratch.Order(Math.Max(shape.Buckets.Length, shape.Cards))[..shape.Buckets.Length];
        taken = scratch.Taken(shape.Buckets.Length);
    }

    /// <summary>The columns that each bucket may serve in the answer.</summary>
    public ReadOnlySpan<int> BucketMasks => bucketMasks;

    /// <summary>Buckets, best first.</summary>
    public ReadOnlySpan<int> Order => order;

    /// <summary>How many devices the answer takes of each bucket.</summary>
    public ReadOnlySpan<int> Taken => taken;

    /// <summary>Decides, within <see cref="WorkBounds.Deciding"/>.</summary>
    public Fit Solve()
    {
        scratch.Begin(WorkBounds.Deciding);
        return SolveWithin();
    }

    /// <summary>Decides within what is left of a bound that has begun.</summary>
    public Fit SolveWithin()
    {
        int preferred = plan.Guest.Kind == GuestNumaKind.None ? 0 : plan.Preferred;
        bool nearest = plan.Guest.Kind == GuestNumaKind.Unknown && plan.Legacy != 0;
        bool ignored = false;
        // Most claims get all that they would like at the first try; where that is hard to tell, a quarter of the bound is spent on it.
        scratch.Allow(scratch.Left / 4);
        // For a guest that may go anywhere, devices on one node are better, asked for or not.
        if (nearest && Attempt(preferred | plan.Legacy, preferred, ref ignored) is { Served: true } together)
            return together;
        if (preferred != 0 && Attempt(preferred, preferred, ref ignored) is { Served: true } whole)
            return whole;
        // Without any preference the claim asks for least: what can't be served so can't be served at all.
        long before = scratch.Left;
        scratch.Allow(before);
        bool tooComplex = false;
        Fit least = Attempt(0, preferred, ref tooComplex);
        if (!least.Served)
            return tooComplex ? Fit.TooComplex : Fit.Refused;
        return (preferred & (preferred - 1)) == 0 ? least : MostOf(preferred, before - scratch.Left);
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
            long before = scratch.Left;
            scratch.Allow(Math.Min(before / 2, before - costOfBest));
            if (Attempt(kept | bit, preferred, ref ignored).Served)
                (kept, costOfBest) = (kept | bit, before - scratch.Left);
        }
        scratch.Allow(scratch.Left);
        return Attempt(kept, preferred, ref ignored);
    }

    /// <summary>For a guest without NUMA: whether an assignment exists, without choosing one, within what is left of a bound; null when that is not enough to tell.</summary>
    public bool? FitsAnywhere()
    {
        bool tooComplex = false;
        numaMasks.Fill(plan.All);
        scratch.Allow(scratch.Left);
        return Try(ref tooComplex) ? true : tooComplex ? null : false;
    }

    // One try: the columns in strict, whose policy is only a preference, are held to it.
    private Fit Attempt(int strict, int preferred, ref bool tooComplex)
    {
        bool? met = preferred == 0 ? null : (preferred & ~strict) == 0;
        int onNode = plan.Required | plan.Socket | strict;
        int together = plan.Required | strict;
        if (plan.Guest.Kind != GuestNumaKind.Unknown || onNode == 0)
        {
            SetNumaMasks(strict, -1);
            return Try(ref tooComplex) ? Pick(met, -1) : Fit.Refused;
        }
        // The fullest use of the smallest node that is enough: nodes by the devices that they have for these columns.
        Span<int> totals = scratch.NumaTotals(shape.NumaNodes.Length);
        totals.Clear();
        foreach (ref readonly Bucket b in shape.Buckets.AsSpan())
        {
            if (b.Numa >= 0 && (classMasks[b.Class] & onNode) != 0)
                totals[b.Numa] += b.Free;
        }
        // What all goes to one node must be there.
        for (int n = 0; n < totals.Length && together == onNode; n++)
            totals[n] = totals[n] < plan.Demand[together] ? 0 : totals[n];
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
        if (plan.Guest.Kind == GuestNumaKind.None)
        {
            numaMasks.Fill(plan.All);
            return;
        }
        int anywhere = (plan.Preferred | plan.Legacy) & ~strict;
        if (plan.Guest.Kind == GuestNumaKind.Unknown)
        {
            numaMasks[0] = anywhere;
            for (int n = 0; n < shape.NumaNodes.Length; n++)
            {
                bool here = n == guestNode;
                bool socket = here || (guestNode >= 0 && !shape.SocketUnknown && shape.Sockets[n] == shape.Sockets[guestNode]);
                numaMasks[n + 1] = here ? plan.All : anywhere | (socket ? plan.Socket : 0);
            }
            return;
        }
        int[] cells = plan.Guest.NodeArray;
        int remote = plan.Preferred & ~strict;
        numaMasks[0] = remote | plan.Legacy;
        for (int n = 0; n < shape.NumaNodes.Length; n++)
        {
            bool here = Array.BinarySearch(cells, shape.NumaNodes[n]) >= 0;
            numaMasks[n + 1] = here ? plan.All : remote | (plan.Socket != 0 && SharesSocket(n, cells) ? plan.Socket : 0);
        }
    }

    private bool SharesSocket(int n, int[] cells)
    {
        if (shape.SocketUnknown)
            return false;
        foreach (int cell in cells)
        {
            int c = Array.BinarySearch(shape.NumaNodes, cell);
            if (c >= 0 && shape.Sockets[c] == shape.Sockets[n])
                return true;
        }
        return false;
    }

    private bool Try(ref bool tooComplex)
    {
        ReadOnlySpan<Bucket> buckets = shape.Buckets;
        scratch.Spend(buckets.Length + plan.Sets);
        if (scratch.Allowance < 0)
        {
            tooComplex = true;
            return false;
        }
        bool cards = false;
        int total = 0;
        for (int i = 0; i < buckets.Length; i++)
        {
            ref readonly Bucket b = ref buckets[i];
            int mask = classMasks[b.Class] & numaMasks[b.Numa + 1];
            bucketMasks[i] = mask;
            if (mask == 0)
                continue;
            total += b.Free;
            cards |= (b.Own & b.Parent) != -1;
        }
        if (total < plan.Demand[plan.All])
            return false;
        if (cards)
            return TryCards(ref tooComplex);
        if (plan.Columns.Length == 1)
            return true;
        Span<int> counts = scratch.Counts(plan.Sets);
        counts.Clear();
        for (int i = 0; i < buckets.Length; i++)
            counts[bucketMasks[i]] += buckets[i].Free;
        counts[0] = 0;
        Span<int> supply = scratch.Supply(plan.Sets);
        Hall.Supply(counts, supply);
        return Hall.Met(supply, plan.Demand);
    }

    // modes: -1 undecided, 0 VFs, 1 PF.
    private bool TryCards(ref bool tooComplex)
    {
        const byte OwnWanted = 1;
        const byte ParentWanted = 2;
        ReadOnlySpan<Bucket> buckets = shape.Buckets;
        Span<byte> sides = scratch.Sides(shape.Cards);
        sides.Clear();
        for (int i = 0; i < buckets.Length; i++)
        {
            Bucket b = buckets[i];
            if (bucketMasks[i] == 0)
                continue;
            if (b.Own >= 0)
                sides[b.Own] |= OwnWanted;
            if (b.Parent >= 0)
                sides[b.Parent] |= ParentWanted;
        }
        for (int card = 0; card < modes.Length; card++)
        {
            modes[card] = (sides[card] & (OwnWanted | ParentWanted)) switch
            {
                OwnWanted => 1,
                OwnWanted | ParentWanted => -1,
                _ => 0,
            };
        }
        return TryModes(ref tooComplex);
    }

    private bool Usable(Bucket b) => (b.Own < 0 || modes[b.Own] == 1) && (b.Parent < 0 || modes[b.Parent] == 0);

    // A VF in the group of another card's PF, both cards open.
    private bool IsLink(in Bucket b) => IsOpen(b.Own) && IsOpen(b.Parent);

    private bool IsOpen(int card) => card >= 0 && modes[card] < 0;

    // Not usable, whatever is decided for the cards that are still open.
    private bool IsOut(Bucket b) => (b.Own >= 0 && modes[b.Own] == 0) || (b.Parent >= 0 && modes[b.Parent] == 1);

    private bool TryModes(ref bool tooComplex)
    {
        ReadOnlySpan<Bucket> buckets = shape.Buckets;
        Span<int> counts = scratch.Counts(plan.Sets);
        counts.Clear();
        bool open = false;
        for (int i = 0; i < buckets.Length; i++)
        {
            Bucket b = buckets[i];
            if (bucketMasks[i] == 0)
                continue;
            if (Usable(b))
                counts[bucketMasks[i]] += b.Free;
            else
                open |= !IsOut(b);
        }
        Span<int> supply = scratch.Supply(plan.Sets);
        Hall.Supply(counts, supply);
        if (!open)
            return Hall.Met(supply, plan.Demand);
        if (Hall.Met(supply, plan.Demand))
        {
            CloseAll();
            return true;
        }

        // By card: what its PF's group adds to each set of columns, then what its VFs add.
        int width = plan.Sets;
        scratch.Spend((long)width * (buckets.Length + (3 * modes.Length)));
        Span<int> vectors = scratch.Vectors(modes.Length * width * 2);
        vectors.Clear();
        for (int i = 0; i < buckets.Length; i++)
        {
            Bucket b = buckets[i];
            int mask = bucketMasks[i];
            int at = mask == 0 || IsOut(b) || IsLink(b) ? -1
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

    // Whether some number of cards in PF mode could do, by each column alone and by all: at best those k cards are in PF mode that a column gains most
    // from. Each further card gains it less, so the numbers that meet it are neighbours, from a least to a most.
    private bool AnyNumberOfPfs(ReadOnlySpan<int> vectors, ReadOnlySpan<int> fixedSupply)
    {
        int width = plan.Sets;
        Span<int> gains = scratch.Gains(modes.Length);
        int least = 0;
        int most = modes.Length;
        for (int column = 0; column <= plan.Columns.Length; column++)
        {
            int set = column < plan.Columns.Length ? 1 << column : plan.All;
            int open = 0;
            int missing = plan.Demand[set] - fixedSupply[set];
            for (int i = 0; i < bucketMasks.Length; i++)
                missing -= (bucketMasks[i] & set) != 0 && IsLink(shape.Buckets[i]) ? shape.Buckets[i].Free : 0;
            for (int card = 0; card < modes.Length; card++)
            {
                if (modes[card] >= 0)
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
        int width = plan.Sets;
        Span<int> supply = scratch.Counts(width);
        Span<int> cards = scratch.Order(Math.Max(modes.Length, order.Length));
        fixedSupply.CopyTo(supply);
        int open = 0;
        for (int card = 0; card < modes.Length; card++)
        {
            if (modes[card] >= 0)
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
            if (Hall.Met(supply, plan.Demand))
            {
                for (int i = 0; i < open; i++)
                    modes[cards[i]] = i < given ? (sbyte)1 : (sbyte)0;
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
        int width = plan.Sets;
        List<(int Own, int Parent)> links = [];
        for (int i = 0; i < bucketMasks.Length; i++)
        {
            Bucket b = shape.Buckets[i];
            if (bucketMasks[i] != 0 && IsLink(b) && !links.Contains((b.Own, b.Parent)))
                links.Add((b.Own, b.Parent));
        }
        int rows = width + (links.Count * 2);
        scratch.Spend(((long)links.Count * (bucketMasks.Length + links.Count)) + (rows * (long)(modes.Length + links.Count)));
        // What is begun is ended: no question whose making alone is beyond the bound.
        if (scratch.Allowance < NumbersOfQuestion * rows * (modes.Length + links.Count))
        {
            tooComplex = true;
            return false;
        }
        Span<int> need = scratch.Rows(rows * 4);
        need.Clear();
        Span<int> given = need.Slice(rows, rows);
        Span<int> pf = need.Slice(rows * 2, rows);
        Span<int> vfs = need.Slice(rows * 3, rows);
        plan.Demand.CopyTo(need);
        fixedSupply.CopyTo(given);
        for (int link = 0; link < links.Count; link++)
        {
            // own - link >= 0, and -parent - link >= -1.
            given[width + (link * 2) + 1] = 1;
        }
        CardSearch search = scratch.CardSearch;
        CardQuestion question = search.Question;
        question.Begin(need[..rows], given, width);
        for (int card = 0; card < modes.Length; card++)
        {
            if (modes[card] >= 0)
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
            for (int i = 0; i < bucketMasks.Length; i++)
            {
                Bucket b = shape.Buckets[i];
                for (int set = 1; (b.Own, b.Parent) == links[link] && set < width; set++)
                {
                    if ((set & bucketMasks[i]) != 0)
                        pf[set] += b.Free;
                }
            }
            question.Add(modes.Length + link, pf, vfs);
        }
        Span<sbyte> answer = links.Count == 0 ? modes : new sbyte[modes.Length + links.Count];
        modes.CopyTo(answer);
        bool? found = search.Run(answer, scratch.Allowance);
        scratch.Spend(search.Work);
        tooComplex |= found is null;
        if (found is true)
            answer[..modes.Length].CopyTo(modes);
        return found is true;
    }

    // Nothing that is still open is needed.
    private void CloseAll()
    {
        for (int i = 0; i < bucketMasks.Length; i++)
        {
            Bucket b = shape.Buckets[i];
            if (bucketMasks[i] != 0 && !Usable(b))
                bucketMasks[i] = 0;
        }
        foreach (ref sbyte mode in modes)
            mode = mode < 0 ? (sbyte)0 : mode;
    }

    // The cheapest devices that are enough, bucket by bucket.
    private Fit Pick(bool? preferenceMet, int guestNode)
    {
        ReadOnlySpan<Bucket> buckets = shape.Buckets;
        taken.Clear();
        Sort(guestNode);
        int left = plan.Demand[plan.All];
        long cost = 0;
        bool single = plan.Columns.Length == 1;
        Span<int> picked = scratch.Picked(plan.Sets);
        picked.Clear();
        foreach (int i in order)
        {
            Bucket b = buckets[i];
            int mask = bucketMasks[i];
            if (mask == 0 || (shape.Cards > 0 && !Usable(b)))
            {
                bucketMasks[i] = 0;
                continue;
            }
            if (left == 0)
                continue;
            int take = Math.Min(b.Free, left);
            if (!single)
            {
                for (int set = mask; set < plan.Sets; set = (set + 1) | mask)
                    take = Math.Min(take, plan.Demand[set] - picked[set]);
                for (int set = mask; take > 0 && set < plan.Sets; set = (set + 1) | mask)
                    picked[set] += take;
            }
            if (take <= 0)
                continue;
            taken[i] = take;
            left -= take;
            cost += (long)take * (b.Cost + Penalty(b, guestNode));
        }
        return new Fit(true, false, preferenceMet, cost, guestNode);
    }

    private int Penalty(Bucket b, int guestNode)
    {
        if (plan.Guest.Kind == GuestNumaKind.Unknown)
            return guestNode < 0 || b.Numa == guestNode ? 0 : b.Numa < 0 ? UnknownNode : RemoteNode;
        if (plan.Guest.Kind == GuestNumaKind.None)
            return 0;
        return b.Numa < 0 ? UnknownNode : Array.BinarySearch(plan.Guest.NodeArray, shape.NumaNodes[b.Numa]) >= 0 ? 0 : RemoteNode;
    }

    // The shape's buckets are in order of cost; where the guest's place counts, the nearest come first.
    private void Sort(int guestNode)
    {
        bool places = plan.Guest.Kind == GuestNumaKind.Nodes || guestNode >= 0;
        for (int i = 0; i < order.Length; i++)
        {
            int at = i;
            if (places)
            {
                int penalty = Penalty(shape.Buckets[i], guestNode);
                while (at > 0 && Penalty(shape.Buckets[order[at - 1]], guestNode) > penalty)
                {
                    order[at] = order[at - 1];
                    at--;
                }
            }
            order[at] = i;
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
