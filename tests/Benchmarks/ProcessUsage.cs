using System.Globalization;

namespace PciOperator.Benchmarks;

/// <summary>What a process has used of processors and memory.</summary>
/// <param name="Ticks">utime and stime, in hundredths of a second.</param>
/// <param name="Threads">By number.</param>
/// <param name="Resident">VmRSS, KiB.</param>
/// <param name="Anonymous">RssAnon, KiB.</param>
internal sealed record ProcessUsage(long Ticks, IReadOnlyDictionary<string, ThreadUsage> Threads, long Resident, long Anonymous)
{
    public static ProcessUsage Of(int pid)
    {
        Dictionary<string, ThreadUsage> threads = Directory
            .GetDirectories($"/proc/{pid}/task")
            .ToDictionary(
                t => t,
                t => new ThreadUsage(
                    File.ReadAllText($"{t}/comm").Trim(),
                    long.Parse(File.ReadAllText($"{t}/schedstat").Split(' ')[0], CultureInfo.InvariantCulture),
                    Number($"{t}/status", "voluntary_ctxt_switches:")
                )
            );
        string stat = File.ReadAllText($"/proc/{pid}/stat");
        string[] fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
        return new ProcessUsage(
            long.Parse(fields[11], CultureInfo.InvariantCulture) + long.Parse(fields[12], CultureInfo.InvariantCulture),
            threads,
            MemoryOf(pid, "VmRSS"),
            MemoryOf(pid, "RssAnon")
        );
    }

    /// <summary>What each thread has used since an earlier count, the busiest first.</summary>
    public IReadOnlyList<ThreadUsage> Since(ProcessUsage earlier) =>
        [.. Threads.Select(t => t.Value.Since(earlier.Threads.GetValueOrDefault(t.Key))).OrderByDescending(t => t.Nanoseconds)];

    /// <summary>A field of a process' memory (proc_pid_status(5)), KiB.</summary>
    public static long MemoryOf(int pid, string field) => Number($"/proc/{pid}/status", field + ":");

    private static long Number(string file, string field) =>
        long.Parse(
            File.ReadLines(file)
                .First(l => l.StartsWith(field, StringComparison.Ordinal))[field.Length..]
                .Replace("kB", "", StringComparison.Ordinal),
            CultureInfo.InvariantCulture
        );
}

/// <param name="Name">As the kernel shows it.</param>
/// <param name="Nanoseconds">On a processor.</param>
/// <param name="Waits">Times that it gave the processor up by itself.</param>
internal sealed record ThreadUsage(string Name, long Nanoseconds, long Waits)
{
    /// <summary>From an earlier count on; null: the thread began later.</summary>
    public ThreadUsage Since(ThreadUsage? earlier) =>
        earlier is null ? this : this with { Nanoseconds = Nanoseconds - earlier.Nanoseconds, Waits = Waits - earlier.Waits };
}
