using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace PciOperator.Benchmarks;

/// <summary>
/// A published program in a process of its own. CPU time and memory are the kernel's own counts of that process alone
/// (proc_pid_stat(5): utime and stime, which getrusage(2) gives too, in ticks; and the scheduler's nanoseconds of each thread,
/// /proc/PID/task/TID/schedstat).
/// </summary>
internal sealed class ShippedProgram : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);
    private readonly Stopwatch _sinceStart;
    private readonly int _port;
    private readonly string _file;

    /// <summary>Starts it with its health served on a free port.</summary>
    public ShippedProgram(string file, params string[] arguments)
    {
        (_file, _port) = (file, FreePort());
        _sinceStart = Stopwatch.StartNew();
        Process =
            Process.Start(new ProcessStartInfo(file, [.. arguments, "--health-address", $"127.0.0.1:{_port}", "--log-level", "warning"]))
            ?? throw new InvalidOperationException($"{file} can't be started.");
    }

    public Process Process { get; }

    /// <summary>Waits until <c>/readyz</c> says so; the time since the process was started.</summary>
    public async Task<TimeSpan> ReadyAsync()
    {
        using var http = new HttpClient();
        while (true)
        {
            ThrowIfEnded();
            try
            {
                using HttpResponseMessage answer = await http.GetAsync(new Uri($"http://127.0.0.1:{_port}/readyz"));
                if (answer.IsSuccessStatusCode)
                    return _sinceStart.Elapsed;
            }
            catch (HttpRequestException)
            {
                // It doesn't listen yet.
            }

            if (_sinceStart.Elapsed > Patience)
                throw new TimeoutException($"{_file} is not ready after {Patience.TotalSeconds:0} s.");
            await Task.Delay(1);
        }
    }

    public void ThrowIfEnded()
    {
        if (Process.HasExited)
            throw new InvalidOperationException($"{_file} ended with exit code {Process.ExitCode}.");
    }

    public ProcessUsage Usage() => ProcessUsage.Of(Process.Id);

    public async ValueTask DisposeAsync()
    {
        Process.Kill();
        await Process.WaitForExitAsync();
        Process.Dispose();
    }

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}

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
