using System.Diagnostics;
using System.Globalization;
using PciOperator.Core;
using PciOperator.Core.Tests;

namespace PciOperator.Benchmarks;

/// <summary>
/// What answers that take all of the bound of work cost in processor time, which other programs on the machine hardly change.
/// </summary>
internal static class WorkBound
{
    private const int Answers = 20;

    /// <summary>Measures the hosts that are beyond the bound, and says the dearest.</summary>
    public static void Print(TextWriter output)
    {
        double most = 0;
        foreach ((int family, int seed) in (ReadOnlySpan<(int, int)>)[(26, 0), (4, 1), (3, 0), (28, 0)])
        {
            var host = HardHosts.Of(family, seed);
            (NodeInventory node, ClaimRequirements claim) = (host.Node(), host.Claim());
            Allocator.TryNode(node, claim);
            using var process = Process.GetCurrentProcess();
            TimeSpan before = process.TotalProcessorTime;
            for (int i = 0; i < Answers; i++)
                Allocator.TryNode(node, claim);
            process.Refresh();
            most = Math.Max(most, (process.TotalProcessorTime - before).TotalMilliseconds / Answers);
        }

        output.WriteLine(
            string.Create(
                CultureInfo.InvariantCulture,
                $"One node's answer at the bound of work: {most:0.0} ms of processor time, of 50 that are stated."
            )
        );
    }
}
