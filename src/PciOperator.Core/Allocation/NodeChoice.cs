using System.Numerics;
using System.Runtime.Intrinsics;

namespace PciOperator.Core;

/// <summary>One claim's way through a cluster: which nodes could serve it by their columns, which of them do, and which is best.</summary>
/// <remarks>
/// Nodes are compared by: whether NUMA preferences are met; what the assignment spoils (whole PFs broken up, companions
/// that go along, places far from the guest); then fewer other free devices (Nova's PCI weigher) or, to spread, more; then the name.
/// Nodes of one shape are decided once. Nodes are looked at by what is left on them, then name, until one spoils nothing (no later one is
/// better then) or 256 that serve the claim are compared: solving all of 5,000 that differ would cost milliseconds to save a PF
/// on a node that packing would fill last. The order, and so the choice, is the same however the snapshot came to be.
/// </remarks>
internal sealed class NodeChoice
{
    /// <summary>Nodes that serve the claim and pass the filters are compared up to this many.</summary>
    public const int MostCompared = 256;

    private const ulong Everywhere = ulong.MaxValue;

    // Pages with more different places than bits of a word are left to the look at each node; the same for the sets of more than four
    // columns.
    private const int MostPlaces = 63;
    private const int MostSets = 16;

    private readonly ClusterInventory _cluster;
    private readonly ClaimPlan _plan;
    private readonly IReadOnlyList<INodeFilter> _filters;
    private readonly PlacementOptions _options;
    private readonly int[] _masks;
    private readonly HashSet<string>? _excluded;
    private readonly PlacementBuffers _buffers = PlacementBuffers.Mine;
    private readonly long _end = Scratch.Mine.Work + WorkBounds.Decision;
    private ulong[] _refused = [];
    private DeviceType?[]?[]? _otherTypes;

    public NodeChoice(ClusterInventory cluster, ClaimPlan plan, IReadOnlyList<INodeFilter> filters, PlacementOptions options)
    {
        (_cluster, _plan, _filters, _options) = (cluster, plan, filters, options);
        DeviceClass[] classes = cluster.Classes.All;
        _masks = _buffers.Masks(classes.Length);
        for (int i = 0; i < classes.Length; i++)
            _masks[i] = plan.MaskOf(classes[i]);
        if (plan.Claim.Excluded.Count > 0)
            _excluded = [.. plan.Claim.Excluded.Select(e => e.Node)];
    }

    /// <summary>The best node that serves the claim; null without one.</summary>
    public NodeInventory? Best()
    {
        NodeInventory? best = null;
        Fit bestFit = default;
        int serving = 0;
        Visit(
            (node, fit) =>
            {
                if (best is null || Better(fit, bestFit))
                    (best, bestFit) = (node, fit);
                return ++serving < MostCompared && bestFit is not { Cost: 0, PreferenceMet: not false };
            }
        );
        return best;
    }

    /// <summary>The nodes that serve the claim, best first: the best of the first <see cref="MostCompared"/> of them.</summary>
    public IReadOnlyList<NodeInventory> Ranked(int most)
    {
        var serving = new List<(NodeInventory Node, Fit Fit)>();
        Visit(
            (node, fit) =>
            {
                serving.Add((node, fit));
                return serving.Count < MostCompared;
            }
        );
        // Sorting keeps the order of those that are alike: what is left on them, then name.
        return
        [
            .. serving
                .Order(Comparer<(NodeInventory Node, Fit Fit)>.Create((a, b) => Compared(a.Fit, b.Fit)))
                .Take(most)
                .Select(s => s.Node),
        ];

        int Compared(Fit a, Fit b) =>
            Better(a, b) ? -1
            : Better(b, a) ? 1
            : 0;
    }

    /// <summary>Shows each node that serves the claim and passes the filters, until the visitor has seen enough.</summary>
    private void Visit(Func<NodeInventory, Fit, bool> more)
    {
        _refused = _buffers.Refused(_cluster.Pages.Length);
        int count = Candidates(out ReadOnlySpan<int> sorted);
        _buffers.ForgetShapes(count);
        for (int i = 0; i < count; i++)
        {
            NodePage page = _cluster.Pages[sorted[i] / NodePage.Most];
            int at = sorted[i] % NodePage.Most;
            NodeInventory node = page.Nodes[at];
            Fit fit = FitOf(node, page.ClassNumbers[at]);
            if (!fit.Served)
            {
                if (!fit.GaveUp)
                    _refused[sorted[i] / NodePage.Most] |= 1ul << at;
                continue;
            }

            if (Filtered(node.Name) is null && !more(node, fit))
                return;
        }
    }

    /// <summary>The nodes by reason, after <see cref="Best"/> found none that serves the claim.</summary>
    public IEnumerable<(RefusalReason Reason, int Nodes)> Refusals()
    {
        var reasons = new Tally();
        int[] lacking = new int[_plan.Columns.Length];
        var otherType = new Dictionary<(int RequestGroup, DeviceType Type), int>();
        var tooFew = new Dictionary<(int RequestGroup, int Free), int>();
        Span<ushort> sums = stackalloc ushort[NodePage.Most];
        for (int p = 0; p < _cluster.Pages.Length; p++)
        {
            NodePage page = _cluster.Pages[p];
            ulong open = ulong.MaxValue >> (NodePage.Most - page.Nodes.Length);
            if (_filters.Count > 0 || _excluded is not null)
            {
                for (int at = 0; at < page.Nodes.Length; at++)
                {
                    RefusalReason? reason = Filtered(page.Nodes[at].Name);
                    if (reason is null && _excluded?.Contains(page.Nodes[at].Name) == true)
                        reason = ReasonOf(page.Nodes[at], page.ClassNumbers[at], false);
                    if (reason is null)
                        continue;
                    reasons.Add(reason, 1);
                    open &= ~(1ul << at);
                }
            }

            for (int c = 0; c < lacking.Length && open != 0; c++)
            {
                ulong present = 0;
                for (int k = 0; k < page.Classes.Length; k++)
                    present |= (_masks[page.Classes[k]] >> c & 1) != 0 ? page.Present[k] : 0;
                lacking[c] += BitOperations.PopCount(WithoutOtherType(page, c, open & ~present, otherType));
                open &= present;
            }

            for (int c = 0; c < lacking.Length && open != 0; c++)
            {
                Sum(page, 1 << c, Everywhere, sums);
                for (ulong bits = open; bits != 0; bits &= bits - 1)
                {
                    int at = BitOperations.TrailingZeroCount(bits);
                    if (sums[at] >= _plan.Columns[c].Count)
                        continue;
                    open &= ~(1ul << at);
                    if (page.Nodes[at].HasUnspecifiedEndpoints)
                        reasons.Add(RefusalText.TooFew(page.Nodes[at], _plan, c, sums[at]), 1);
                    else
                        tooFew[(c, sums[at])] = tooFew.GetValueOrDefault((c, sums[at])) + 1;
                }
            }

            open = ExplainWhole(page, open & _refused[p], sums, reasons) | (open & ~_refused[p]);
            for (; open != 0; open &= open - 1)
            {
                int at = BitOperations.TrailingZeroCount(open);
                reasons.Add(ReasonOf(page.Nodes[at], page.ClassNumbers[at], (_refused[p] >> at & 1) != 0), 1);
            }
        }

        for (int c = 0; c < lacking.Length; c++)
        {
            if (lacking[c] > 0)
                reasons.Add(RefusalText.NoDevice(_plan, c), lacking[c]);
        }

        foreach (((int column, DeviceType type), int nodes) in otherType)
            reasons.Add(RefusalText.NoDevice(_plan, column, type), nodes);
        foreach (((int column, int free), int nodes) in tooFew)
            reasons.Add(RefusalText.TooFew(_plan, column, free), nodes);
        return reasons.All();
    }

    // Of nodes without a device for a column, those that have none of another type either; the others are counted by that type.
    private ulong WithoutOtherType(NodePage page, int column, ulong nodes, Dictionary<(int RequestGroup, DeviceType Type), int> counts)
    {
        if (nodes == 0)
            return 0;
        _otherTypes ??= new DeviceType?[_plan.Columns.Length][];
        DeviceType?[] types = _otherTypes[column] ??= [.. _cluster.Classes.All.Select(c => c.OtherTypeOf(_plan.Columns[column].Alias))];
        foreach (DeviceType type in RefusalText.OtherTypes)
        {
            ulong there = 0;
            for (int k = 0; k < page.Classes.Length; k++)
                there |= types[page.Classes[k]] == type ? page.Present[k] & nodes : 0;
            if (there == 0)
                continue;
            counts[(column, type)] = counts.GetValueOrDefault((column, type)) + BitOperations.PopCount(there);
            nodes &= ~there;
        }

        return nodes;
    }

    // Many nodes with enough for each column, refused as wholes, at once: too few for some set of columns anywhere, or enough for all sets
    // (and no card whose PF and VFs exclude each other), so that only NUMA refuses them. The nodes that are left need a look of their own.
    private ulong ExplainWhole(NodePage page, ulong whole, Span<ushort> sums, Tally reasons)
    {
        if (whole == 0 || _plan.Sets > MostSets)
            return whole;
        ulong enough = whole;
        for (int set = 3; set < _plan.Sets; set++)
        {
            if (BitOperations.IsPow2(set))
                continue;
            Sum(page, set, Everywhere, sums);
            enough &= AtLeast(sums, _plan.Demand[set]);
        }

        if ((whole & ~enough) != 0)
            reasons.Add(RefusalText.Together, BitOperations.PopCount(whole & ~enough));
        ulong plain = enough & ~page.WithCards;
        if (plain == 0 || RefusalText.OfOnlyPolicy(_plan) is not { } reason)
            return enough;
        reasons.Add(reason, BitOperations.PopCount(plain));
        return enough & ~plain;
    }

    /// <summary>Counts by reason; the same object many times in a row costs next to nothing.</summary>
    private sealed class Tally
    {
        private readonly Dictionary<RefusalReason, int> _counts = [];
        private RefusalReason? _last;
        private int _lastCount;

        public void Add(RefusalReason reason, int nodes)
        {
            if (!ReferenceEquals(reason, _last))
            {
                Close();
                _last = reason;
            }

            _lastCount += nodes;
        }

        public IEnumerable<(RefusalReason Reason, int Nodes)> All()
        {
            Close();
            return _counts.Select(p => (p.Key, p.Value));
        }

        private void Close()
        {
            if (_last is not null)
                _counts[_last] = _counts.GetValueOrDefault(_last) + _lastCount;
            _lastCount = 0;
        }
    }

    // Nodes with enough free devices for each column taken alone, in order of what is left on them, then name.
    private int Candidates(out ReadOnlySpan<int> sorted)
    {
        Span<int> found = _buffers.Found(_cluster.Pages.Length * NodePage.Most);
        Span<int> starts = _buffers.Starts();
        starts.Clear();
        Span<ushort> sums = stackalloc ushort[NodePage.Most];
        int count = 0;
        for (int p = 0; p < _cluster.Pages.Length; p++)
        {
            NodePage page = _cluster.Pages[p];
            ulong open = ulong.MaxValue >> (NodePage.Most - page.Nodes.Length);
            open = EnoughForEach(page, _plan.All, Everywhere, open, sums);
            ulong placed = open == 0 ? 0 : AtOnePlace(page, open, sums);
            _refused[p] = open & ~placed;
            open = placed;
            for (; open != 0; open &= open - 1)
            {
                int at = BitOperations.TrailingZeroCount(open);
                found[count++] = (p * NodePage.Most) + at;
                starts[KeyOf(page, at) + 1]++;
            }
        }

        for (int i = 1; i < starts.Length; i++)
            starts[i] += starts[i - 1];
        Span<int> result = _buffers.Sorted(count);
        for (int i = 0; i < count; i++)
            result[starts[KeyOf(_cluster.Pages[found[i] / NodePage.Most], found[i] % NodePage.Most)]++] = found[i];
        sorted = result;
        return count;
    }

    private int KeyOf(NodePage page, int at)
    {
        int free = Math.Min((int)page.Totals[at], PlacementBuffers.MostFree);
        return _options.Strategy == NodeStrategy.Pack ? free : PlacementBuffers.MostFree - free;
    }

    // The nodes that could meet the policies, each column and all columns of a policy taken alone. For a guest that may go
    // anywhere there must be one place with enough; else enough at the guest's places.
    private ulong AtOnePlace(NodePage page, ulong open, Span<ushort> sums)
    {
        if (
            _plan.Guest.Kind == GuestNumaKind.None
            || (_plan.Required | _plan.Socket | _plan.Legacy) == 0
            || page.Places.Length > MostPlaces
        )
        {
            return open;
        }

        if (_plan.Guest.Kind == GuestNumaKind.Nodes)
        {
            ulong near = 0;
            ulong unknown = 0;
            for (int i = 0; i < page.Places.Length; i++)
            {
                near |= Array.BinarySearch(_plan.Guest.NodeArray, page.Places[i].Numa) >= 0 ? 1ul << i : 0;
                unknown |= page.Places[i].Numa < 0 ? 1ul << i : 0;
            }

            return Enough(page, _plan.Required, near, Enough(page, _plan.Legacy, near | unknown, open, sums), sums);
        }

        if ((_plan.Required | _plan.Socket) == 0)
            return open;
        ulong served = 0;
        for (int i = 0; i < page.Places.Length && served != open; i++)
        {
            Place guest = page.Places[i];
            if (guest.Numa < 0)
                continue;
            ulong socket = 0;
            for (int other = 0; other < page.Places.Length; other++)
                socket |= page.Places[other].Numa >= 0 && page.Places[other].Socket == guest.Socket ? 1ul << other : 0;
            ulong here = Enough(page, _plan.Required, 1ul << i, open & ~served, sums);
            served |= Enough(page, _plan.Socket, socket, here, sums);
        }

        return served;
    }

    // The nodes of those open whose devices at these places are enough for each of the columns and for all of them.
    private ulong Enough(NodePage page, int columns, ulong places, ulong open, Span<ushort> sums)
    {
        open = EnoughForEach(page, columns, places, open, sums);
        if ((columns & (columns - 1)) != 0 && open != 0)
            open &= Sum(page, columns, places, sums) ? AtLeast(sums, _plan.Demand[columns]) : 0;
        return open;
    }

    private ulong EnoughForEach(NodePage page, int columns, ulong places, ulong open, Span<ushort> sums)
    {
        for (int rest = columns; rest != 0 && open != 0; rest &= rest - 1)
            open &= Sum(page, rest & -rest, places, sums) ? AtLeast(sums, _plan.Demand[rest & -rest]) : 0;
        return open;
    }

    // Free devices of each node, at these places, that may serve any of the columns; false when the page has none.
    private bool Sum(NodePage page, int columns, ulong places, Span<ushort> sums)
    {
        sums.Clear();
        bool any = false;
        for (int k = 0; k < page.Classes.Length; k++)
        {
            if ((_masks[page.Classes[k]] & columns) == 0)
                continue;
            for (int column = page.Starts[k]; column < page.Starts[k + 1]; column++)
            {
                if (places != Everywhere && (places >> page.PlaceOf[column] & 1) == 0)
                    continue;
                any = true;
                ReadOnlySpan<ushort> free = page.Free.AsSpan(column * NodePage.Most, NodePage.Most);
                for (int i = 0; i < NodePage.Most; i += Vector128<ushort>.Count)
                    (Vector128.Create<ushort>(sums[i..]) + Vector128.Create(free[i..])).CopyTo(sums[i..]);
            }
        }

        return any;
    }

    private static ulong AtLeast(ReadOnlySpan<ushort> sums, int count)
    {
        if (count > ushort.MaxValue)
            return 0;
        ulong bits = 0;
        var least = Vector128.Create((ushort)count);
        for (int i = 0; i < NodePage.Most; i += Vector128<byte>.Count)
        {
            var low = Vector128.GreaterThanOrEqual(Vector128.Create(sums[i..]), least);
            var high = Vector128.GreaterThanOrEqual(Vector128.Create(sums[(i + Vector128<ushort>.Count)..]), least);
            bits |= (ulong)Vector128.Narrow(low, high).ExtractMostSignificantBits() << i;
        }

        return bits;
    }

    private static bool Better(Fit fit, Fit than) =>
        (fit.PreferenceMet == false) != (than.PreferenceMet == false) ? fit.PreferenceMet != false : fit.Cost < than.Cost;

    private bool IsOver => Scratch.Mine.Work > _end;

    private Fit FitOf(NodeInventory node, int[] numbers)
    {
        if (_excluded?.Contains(node.Name) == true)
        {
            if (IsOver)
                return Fit.Untried;
            NodeInventory without = node.Without(_plan.Claim);
            return new NodeSolver(without.Shape, _plan, OwnMasks(without)).Solve();
        }

        if (_buffers.TryFind(node.Shape, out Fit known))
            return known;
        Fit fit = IsOver ? Fit.Untried : new NodeSolver(node.Shape, _plan, MasksOf(numbers)).Solve();
        _buffers.Remember(node.Shape, fit);
        return fit;
    }

    // refusedWhole: the node has enough for each column, and was found unable to serve all.
    private RefusalReason ReasonOf(NodeInventory node, int[] numbers, bool refusedWhole)
    {
        if (_excluded?.Contains(node.Name) == true)
        {
            NodeInventory without = node.Without(_plan.Claim);
            ReadOnlySpan<int> own = OwnMasks(without);
            return RefusalText.Explain(without, _plan, own, IsOver ? Fit.Untried : new NodeSolver(without.Shape, _plan, own).Solve());
        }

        if (_buffers.ReasonOf(node.Shape) is { } known)
            return known;
        ReadOnlySpan<int> masksOfNode = MasksOf(numbers);
        // What is refused stays so, when there is no work left to say why.
        RefusalReason reason = refusedWhole
            ? IsOver
                ? RefusalText.Together
                : RefusalText.ExplainWhole(node, _plan, masksOfNode)
            : RefusalText.Explain(
                node,
                _plan,
                masksOfNode,
                _buffers.TryFind(node.Shape, out Fit found) ? found
                    : IsOver ? Fit.Untried
                    : new NodeSolver(node.Shape, _plan, masksOfNode).Solve()
            );
        _buffers.Remember(node.Shape, reason);
        return reason;
    }

    private Span<int> MasksOf(int[] numbers)
    {
        Span<int> result = Scratch.Mine.ClassMasks(numbers.Length);
        for (int i = 0; i < numbers.Length; i++)
            result[i] = _masks[numbers[i]];
        return result;
    }

    private Span<int> OwnMasks(NodeInventory node)
    {
        DeviceClass[] classes = node.Shape.Classes;
        Span<int> result = Scratch.Mine.ClassMasks(classes.Length);
        for (int i = 0; i < classes.Length; i++)
            result[i] = _plan.MaskOf(classes[i]);
        return result;
    }

    private RefusalReason? Filtered(string node)
    {
        for (int i = 0; i < _filters.Count; i++)
        {
            if (_filters[i].Check(node) is { } reason)
                return reason;
        }

        return null;
    }
}
