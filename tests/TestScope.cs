using System.Globalization;

namespace PciOperator;

/// <summary>
/// How much the tests try that have far more cases than a developer has patience: `make test` tries a share that PCI_TEST_SEED names, so
/// that the runs of some days meet all of them, and `make test-all` (PCI_TEST_ALL=1) tries everything. A run repeats exactly with the same
/// seed.
/// </summary>
internal static class TestScope
{
    /// <summary>Everything is tried.</summary>
    public static bool All { get; } = Environment.GetEnvironmentVariable("PCI_TEST_ALL") == "1";

    /// <summary>Which share is tried; 0 where nobody says.</summary>
    public static int Seed { get; } =
        int.TryParse(Environment.GetEnvironmentVariable("PCI_TEST_SEED"), NumberStyles.None, CultureInfo.InvariantCulture, out int seed)
            ? seed
            : 0;

    /// <summary>Whether a share was asked for: somebody named one.</summary>
    public static bool IsShare { get; } = Environment.GetEnvironmentVariable("PCI_TEST_SEED") is { Length: > 0 };

    /// <summary>The seeds of random cases to try: all of <paramref name="count"/>, or one block of so many parts of them.</summary>
    public static IEnumerable<int> Seeds(int count, int parts)
    {
        if (All)
            return Enumerable.Range(0, count);
        int block = count / parts;
        return Enumerable.Range(Seed % parts * block, block);
    }

    /// <summary>So many cases, or that part of them.</summary>
    public static int Cases(int count, int parts) => All ? count : count / parts;

    /// <summary>The first of points that are numbered while they are met, such as the changes of a run: see <see cref="Next"/>.</summary>
    public static int First(int parts) => All ? 0 : Seed % parts;

    /// <summary>The point after one: the next, or the next of this share.</summary>
    public static int Next(int point, int parts) => point + (All ? 1 : parts);

    /// <summary>
    /// All items, or each so manieth, from the seed's on. Where tests take turns, too (<c>[Turns]</c>), the two numbers must have no divisor in
    /// common, or some items never meet their turn.
    /// </summary>
    public static IReadOnlyList<T> Share<T>(IReadOnlyList<T> items, int parts) =>
        All ? items : [.. items.Where((_, i) => (i + Seed) % parts == 0)];

    /// <summary>All of what can be done at a point, or the one whose turn it is.</summary>
    public static IReadOnlyList<T> Turn<T>(IReadOnlyList<T> items, int point) =>
        All || items.Count < 2 ? items : [items[(point + Seed) % items.Count]];
}
