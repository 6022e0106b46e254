namespace PciOperator.Core;

/// <summary>
/// How much work one node's answer may take, counted in numbers looked at, so that the bound is the same on every machine. A number takes a
/// nanosecond or less.
/// </summary>
internal static class WorkBounds
{
    /// <summary>For deciding one node. Beyond it the verdict is <see cref="NodeVerdict.TooComplex"/>.</summary>
    public const long Deciding = 20_000_000;

    /// <summary>For wording one node's refusal. Beyond it the reason is less precise.</summary>
    public const long Wording = 5_000_000;
}
