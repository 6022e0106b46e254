using System.Diagnostics;

namespace PciOperator.Vm.Tests;

/// <summary>A program beside the tests that ends when they do, whatever becomes of them. Its output goes to a file.</summary>
internal sealed class ChildProcess : IAsyncDisposable
{
    // The program's parent kills it when our end of its standard input closes: at the end, and when this process dies.
    private const string Guardian = """
        exec 3<&0 >"$1" 2>&1
        shift
        "$@" 3<&- & program=$!
        (cat <&3; kill -9 $program) >/dev/null 2>&1 & guard=$!
        wait $program; code=$?
        kill $guard 2>/dev/null
        exit $code
        """;

    private readonly Process _process;

    /// <param name="log">A file, overwritten.</param>
    /// <param name="program">Its absolute path.</param>
    /// <param name="arguments">Its arguments.</param>
    public ChildProcess(string log, string program, params IEnumerable<string> arguments)
    {
        Log = log;
        _process = Process.Start(
            new ProcessStartInfo("/bin/sh", ["-c", Guardian, "sh", log, program, .. arguments]) { RedirectStandardInput = true }
        )!;
    }

    public string Log { get; }

    /// <summary>The last lines of its output.</summary>
    public string LogEnd => File.Exists(Log) ? string.Join('\n', File.ReadLines(Log).TakeLast(25)) : "";

    public Task WaitForExitAsync(CancellationToken cancellationToken) => _process.WaitForExitAsync(cancellationToken);

    /// <summary>Kills it (SIGKILL) and waits for its end.</summary>
    public async ValueTask DisposeAsync()
    {
        _process.StandardInput.Close();
        await _process.WaitForExitAsync();
        _process.Dispose();
    }
}
