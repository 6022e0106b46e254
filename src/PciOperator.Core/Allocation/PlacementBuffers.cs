namespace PciOperator.Core;

/// <summary>A thread's memory for one placement after another.</summary>
internal sealed class PlacementBuffers
{
    /// <summary>Nodes with more free devices than this count as having this many, when nodes are put in order.</summary>
    public const int MostFree = 1024;

    [ThreadStatic]
    private static PlacementBuffers? OfThread;

    private readonly int[] _starts = new int[MostFree + 2];
    private int[] _masks = [];
    private int[] _found = [];
    private int[] _sorted = [];
    private ulong[] _refused = [];
    private Entry[] _shapes = new Entry[64];
    private int _round = 1;
    private int _asked;
    private int _known;

    public static PlacementBuffers Mine => OfThread ??= new PlacementBuffers();

    public int[] Masks(int length)
    {
        if (_masks.Length < length)
            _masks = new int[length * 2];
        return _masks;
    }

    public Span<int> Found(int length) => Grow(ref _found, length);

    public Span<int> Sorted(int length) => Grow(ref _sorted, length);

    public Span<int> Starts() => _starts;

    /// <summary>A word for each page.</summary>
    public ulong[] Refused(int pages)
    {
        if (_refused.Length < pages)
            _refused = new ulong[pages * 2];
        return _refused;
    }

    /// <summary>Makes room to remember the answers of so many shapes.</summary>
    public void ForgetShapes(int candidates)
    {
        int wanted = 64;
        while (wanted < candidates * 2)
            wanted *= 2;
        if (_shapes.Length < wanted || _round == int.MaxValue)
            (_shapes, _round) = (new Entry[wanted], 0);
        _round++;
        (_asked, _known) = (0, 0);
    }

    public bool TryFind(NodeShape shape, out Fit fit)
    {
        fit = default;
        if (Pointless)
            return false;
        ref Entry entry = ref Find(shape);
        fit = entry.Fit;
        _asked++;
        _known += entry.Round == _round ? 1 : 0;
        return entry.Round == _round;
    }

    public void Remember(NodeShape shape, Fit fit)
    {
        if (Pointless)
            return;
        ref Entry entry = ref Find(shape);
        entry = new Entry
        {
            Round = _round,
            Shape = shape,
            Fit = fit,
        };
    }

    public RefusalReason? ReasonOf(NodeShape shape)
    {
        if (Pointless)
            return null;
        ref Entry entry = ref Find(shape);
        return entry.Round == _round ? entry.Reason : null;
    }

    public void Remember(NodeShape shape, RefusalReason reason)
    {
        if (Pointless)
            return;
        ref Entry entry = ref Find(shape);
        if (entry.Round == _round)
            entry.Reason = reason;
    }

    // Where hardly two nodes are alike, looking costs more than deciding.
    private bool Pointless => _asked >= 256 && _known < _asked / 8;

    // At most half of the entries are ever in use: each candidate has at most one.
    private ref Entry Find(NodeShape shape)
    {
        int at = shape.Hash & (_shapes.Length - 1);
        while (_shapes[at].Round == _round && !_shapes[at].Shape!.SameAs(shape))
            at = (at + 1) & (_shapes.Length - 1);
        return ref _shapes[at];
    }

    private static Span<int> Grow(ref int[] array, int length)
    {
        if (array.Length < length)
            array = new int[length * 2];
        return array.AsSpan(0, length);
    }

    private struct Entry
    {
        public int Round;
        public NodeShape? Shape;
        public Fit Fit;
        public RefusalReason? Reason;
    }
}
