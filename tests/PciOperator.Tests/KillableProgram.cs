using System.Diagnostics;

namespace PciOperator.Tests;

/// <summary>A program in a process of its own that comes back whenever it dies, as its pod would.</summary>
internal sealed class KillableProgram : IAsyncDisposable
{
    private readonly string[] _arguments;
    private readonly List<string> _points = [];
    private readonly Lock _lock = new();
    private Process _process;
    private Task _ready;
    private TaskCompletionSource? _answer;
    private volatile bool _ended;

    public KillableProgram(params string[] arguments)
    {
        _arguments = arguments;
        (_process, _ready) = Start();
    }

    public int Deaths { get; private set; }

    /// <summary>Looks at what a killed program has left, before the next one starts.</summary>
    public Action? WhenDead { get; set; }

    public async Task<IReadOnlyList<string>> TraceAsync(Func<Task> work)
    {
        await SayAsync("trace");
        await work();
        await SayAsync("count");
        lock (_lock)
            return [.. _points];
    }

    /// <summary>Says something to the program that is running, and waits until it has heard.</summary>
    public async Task SayAsync(string command)
    {
        while (true)
        {
            Process process;
            Task ready;
            lock (_lock)
                (process, ready) = (_process, _ready);
            await ready;
            var answer = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            _answer = answer;
            try
            {
                await process.StandardInput.WriteLineAsync(command);
                await process.StandardInput.FlushAsync();
                await answer.Task.WaitAsync(TimeSpan.FromSeconds(30));
                return;
            }
            catch (IOException)
            {
                // It died: the next one hears it.
            }
        }
    }

    /// <summary>Ends the program, does something while it is away, and starts it again.</summary>
    public async Task RestartAsync(Action meanwhile)
    {
        await EndAsync();
        meanwhile();
        _ended = false;
        lock (_lock)
            (_process, _ready) = Start();
    }

    public async ValueTask DisposeAsync() => await EndAsync();

    private async Task EndAsync()
    {
        _ended = true;
        _process.Kill();
        await _process.WaitForExitAsync();
        _process.Dispose();
    }

    private (Process, Task) Start()
    {
        var ready = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var start = new ProcessStartInfo("dotnet") { RedirectStandardInput = true, RedirectStandardOutput = true };
        start.ArgumentList.Add(Path.Combine(AppContext.BaseDirectory, "PciOperator.KilledPrograms.dll"));
        foreach (string argument in _arguments)
            start.ArgumentList.Add(argument);
        start.Environment["DOTNET_TieredPGO"] = "0";
        var process = new Process { StartInfo = start, EnableRaisingEvents = true };
        process.OutputDataReceived += (_, line) =>
        {
            if (line.Data == "ready")
            {
                ready.TrySetResult();
            }
            else if (line.Data == "done")
            {
                _answer?.TrySetResult();
            }
            else if (line.Data?.StartsWith("point ", StringComparison.Ordinal) == true)
            {
                lock (_lock)
                    _points.Add(line.Data["point ".Length..]);
            }
        };
        process.Exited += (_, _) =>
        {
            if (_ended)
                return;
            WhenDead?.Invoke();
            lock (_lock)
            {
                Deaths++;
                (_process, _ready) = Start();
            }

            _answer?.TrySetException(new IOException("The program died before it answered."));
        };
        process.Start();
        process.BeginOutputReadLine();
        return (process, ready.Task);
    }
}
