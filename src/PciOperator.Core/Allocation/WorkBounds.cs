namespace PciOperator.Core;

/// <summary>
/// How much work one node's answer may take, counted in numbers looked at, so that the bound is the same on every machine. A number takes
/// less than a nanosecond: most are looked at several at a time.
/// </summary>
internal static class WorkBounds
{
    /// <summary>For deciding one node. Beyond it the verdict is <see cref="NodeVerdict.TooComplex"/>.</summary>
    public const long Deciding = 40_000_000;

    /// <summary>For wording one node's refusal. Beyond it the reason is less precise.</summary>
    public const long Wording = 5_000_000;

    /// <summary>
    /// For a decision over all nodes, of one claim or of several that belong together. Nodes beyond it are not looked at, and counted as
    /// such.
    /// </summary>
    public const long Decision = 400_000_000;

    /// <summary>Of that, for one node and claims that belong together.</summary>
    public const long Together = 100_000_000;
}
