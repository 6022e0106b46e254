using System.Diagnostics;
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
