using System.IO.Pipelines;

namespace PciOperator.Cli.Tests.Ui;

/// <summary><c>kubectl pci ui</c>, running; the rest as its command line runs it.</summary>
internal sealed class RunningPage : IAsyncDisposable
{
    private readonly CancellationTokenSource _stop = new();
    private readonly CliIo _io;
    private Task<int> _running = Task.FromResult(0);

    private RunningPage(CliIo io) => _io = io;

    /// <summary>The address that it printed.</summary>
    public string Address { get; private set; } = "";

    /// <summary>Starts it, and waits for the address.</summary>
    public static async Task<RunningPage> StartAsync(string kubeconfig, params string[] args)
    {
        var output = new Pipe();
        var error = new StringWriter();
        var page = new RunningPage(
            new CliIo
            {
                Out = new StreamWriter(output.Writer.AsStream()),
                Error = error,
                Environment = name => name == "KUBECONFIG" ? kubeconfig : null,
            }
        );
        page._running = page.RunAsync(["ui", .. args]);
        using var reader = new StreamReader(output.Reader.AsStream());
        page.Address =
            await reader.ReadLineAsync(TestContext.Current.CancellationToken) ?? throw new InvalidOperationException(error.ToString());
        return page;
    }

    /// <summary>Ctrl-C, and what the program ends with.</summary>
    public async Task<int> StopAsync()
    {
        await _stop.CancelAsync();
        return await _running;
    }

    public async ValueTask DisposeAsync()
    {
        await StopAsync();
        _io.Dispose();
        _stop.Dispose();
    }

    private async Task<int> RunAsync(string[] args)
    {
        try
        {
            return await CliProgram.RunAsync(args, _io, _stop.Token);
        }
        finally
        {
            await _io.Out.DisposeAsync();
        }
    }
}
