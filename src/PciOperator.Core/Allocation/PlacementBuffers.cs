namespace PciOperator.Core;

/// <summary>A thread's memory for one placement after another.</summary>
internal sealed class PlacementBuffers
{
    /// <summary>Nodes with more free devices than this count as having this many, when nodes are put in order.</summary>
    public const int MostFree = 1024;

    [ThreadStatic]
    private static PlacementBuffers? mine;

    private readonly int[] starts = new int[MostFree + 2];
    private int[] masks = [];
    private int[] found = [];
    private int[] sorted = [];
    private ulong[] refused = [];
    private Entry[] shapes = new Entry[64];
    private int round = 1;
    private int asked;
    private int known;

    public static PlacementBuffers Mine => mine ??= new PlacementBuffers();

    public int[] Masks(int length)
    {
        if (masks.Length < length)
            masks = new int[length * 2];
        return masks;
    }

    public Span<int> Found(int length) => Grow(ref found, length);

    public Span<int> Sorted(int length) => Grow(ref sorted, length);

    public Span<int> Starts() => starts;

    /// <summary>A word for each page.</summary>
    public ulong[] Refused(int pages)
    {
        if (refused.Length < pages)
            refused = new ulong[pages * 2];
        return refused;
    }

    /// <summary>Makes room to remember the answers of so many shapes.</summary>
    public void ForgetShapes(int candidates)
    {
        int wanted = 64;
        while (wanted < candidates * 2)
            wanted *= 2;
        if (shapes.Length < wanted || round == int.MaxValue)
            (shapes, round) = (new Entry[wanted], 0);
        round++;
        (asked, known) = (0, 0);
    }

    public bool TryFind(NodeShape shape, out Fit fit)
    {
        fit = default;
        if (Pointless)
            return false;
        ref Entry entry = ref Find(shape);
        fit = entry.Fit;
        asked++;
        known += entry.Round == round ? 1 : 0;
        return entry.Round == round;
    }

    public void Remember(NodeShape shape, Fit fit)
    {
        if (Pointless)
            return;
        ref Entry entry = ref Find(shape);
        entry = new Entry { Round = round, Shape = shape, Fit = fit };
    }

    public RefusalReason? ReasonOf(NodeShape shape)
    {
        if (Pointless)
            return null;
        ref Entry entry = ref Find(shape);
        return entry.Round == round ? entry.Reason : null;
    }

    public void Remember(NodeShape shape, RefusalReason reason)
    {
        if (Pointless)
            return;
        ref Entry entry = ref Find(shape);
        if (entry.Round == round)
            entry.Reason = reason;
    }

    // Where hardly two nodes are alike, looking costs more than deciding.
    private bool Pointless => asked >= 256 && known < asked / 8;

    // At most half of the entries are ever in use: each candidate has at most one.
    private ref Entry Find(NodeShape shape)
    {
        int at = shape.Hash & (shapes.Length - 1);
        while (shapes[at].Round == round && !shapes[at].Shape!.SameAs(shape))
            at = (at + 1) & (shapes.Length - 1);
        return ref shapes[at];
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
