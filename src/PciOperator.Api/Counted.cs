namespace PciOperator.Api;

/// <summary>A number with its noun, as people read it: <c>1 device</c>, <c>2 devices</c>.</summary>
public static class Counted
{
    /// <summary>The number and the noun.</summary>
    /// <param name="number">How many.</param>
    /// <param name="one">The noun for one, whose plural ends in <c>s</c>.</param>
    public static string Of(int number, string one) => number == 1 ? $"1 {one}" : $"{number} {one}s";
}
