using System.Runtime.CompilerServices;

namespace PciOperator.Core;

/// <summary>A thread's working memory, so that deciding allocates only its answer.</summary>
internal sealed class Scratch
{
    [ThreadStatic]
    private static Scratch? OfThread;

    private int[] _classMasks = new int[64];
    private int[] _numaMasks = new int[32];
    private int[] _bucketMasks = new int[64];
    private int[] _counts = new int[256];
    private int[] _supply = new int[256];
    private int[] _picked = new int[256];
    private int[] _order = new int[64];
    private int[] _taken = new int[64];
    private sbyte[] _modes = new sbyte[64];
    private byte[] _sides = new byte[64];
    private int[] _numaTotals = new int[32];
    private int[] _vectors = new int[64];
    private int[] _gains = new int[64];
    private int[] _rows = new int[64];

    /// <summary>All work that was done on this thread: what the bounds are tested by.</summary>
    public long Work { get; private set; }

    /// <summary>What is left of the bound (<see cref="WorkBounds"/>) for what is decided or worded now.</summary>
    public long Left { get; private set; }

    /// <summary>What of that the try that is going on may take.</summary>
    public long Allowance { get; private set; }

    /// <summary>Something new is decided or worded.</summary>
    public void Begin(long bound) => Left = Allowance = bound;

    /// <summary>The next try may take so much, if there is as much.</summary>
    public void Allow(long work) => Allowance = Math.Min(Left, work);

    /// <summary>Counts work that was done.</summary>
    public void Spend(long work)
    {
        Work += work;
        Left -= work;
        Allowance -= work;
    }

    public static Scratch Mine => OfThread ??= new Scratch();

    public Span<int> ClassMasks(int length) => Need(ref _classMasks, length);

    public Span<int> NumaMasks(int length) => Need(ref _numaMasks, length);

    public Span<int> BucketMasks(int length) => Need(ref _bucketMasks, length);

    public Span<int> Counts(int length) => Need(ref _counts, length);

    public Span<int> Supply(int length) => Need(ref _supply, length);

    public Span<int> Picked(int length) => Need(ref _picked, length);

    public Span<int> Order(int length) => Need(ref _order, length);

    public Span<int> Taken(int length) => Need(ref _taken, length);

    public Span<sbyte> Modes(int length) => Need(ref _modes, length);

    public Span<byte> Sides(int length) => Need(ref _sides, length);

    public Span<int> NumaTotals(int length) => Need(ref _numaTotals, length);

    public Span<int> Vectors(int length) => Need(ref _vectors, length);

    public Span<int> Gains(int length) => Need(ref _gains, length);

    public Span<int> Rows(int length) => Need(ref _rows, length);

    /// <summary>The search for cards' modes, with its memory.</summary>
    public CardSearch CardSearch => field ??= new CardSearch();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Span<T> Need<T>(ref T[] array, int length)
    {
        if (array.Length < length)
            array = new T[Math.Max(length, array.Length * 2)];
        return new Span<T>(array, 0, length);
    }
}
