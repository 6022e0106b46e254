using System.Diagnostics;
using System.Globalization;
using PciOperator.Benchmarks;

namespace PciOperator.AotProof;

/// <summary>What this process has cost until now.</summary>
internal static class Cost
{
    /// <summary>Milliseconds since the process began, by the kernel's clock of 10 ms.</summary>
    public static double Age()
    {
        using var self = Process.GetCurrentProcess();
        return (DateTime.Now - self.StartTime).TotalMilliseconds;
    }

    /// <summary>Prints when it was ready (ms since the process began) and the memory that it has now (MiB).</summary>
    /// <returns>0, the exit code.</returns>
    public static int Print(string what, double ready, string detail)
    {
        Console.WriteLine(
            string.Create(
                CultureInfo.InvariantCulture,
                $"{what}: ready after {ready:0} ms, {MiB("RssAnon"):0.0} MiB anonymous, {MiB("VmRSS"):0.0} MiB in all; {detail}"
            )
        );
        return 0;
    }

    private static double MiB(string field) => ProcessUsage.MemoryOf(Environment.ProcessId, field) / 1024.0;
}
