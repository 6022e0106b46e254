using System.Diagnostics.CodeAnalysis;

namespace PciOperator.Testing;

/// <summary>What a test needs that a machine may not have. It is asked for where it is used first, and the test ends there.</summary>
public static class Requirement
{
    /// <summary>Whether this is a run where nothing may be skipped (<c>CI=true</c>).</summary>
    public static bool IsCi => Environment.GetEnvironmentVariable("CI") == "true";

    /// <summary>
    /// Ends the test that runs: skipped, with the reason; in CI it fails with it. Not for fixtures: there a skip is an error.
    /// </summary>
    /// <param name="why">What is missing, and how to have it.</param>
    [DoesNotReturn]
    public static void IsMissing(string why)
    {
        if (IsCi)
            throw new InvalidOperationException(why);
        Assert.Skip(why);
    }
}
