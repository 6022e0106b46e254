using System.CommandLine;
using PciOperator.Cli.Commands;

namespace PciOperator.Cli.Ui;

/// <summary>The page: what the other commands show, live in the caller's own browser.</summary>
internal static class UiCommands
{
    /// <summary>The commands.</summary>
    public static IEnumerable<Command> All(Shell shell)
    {
        var port = new Option<int>("--port") { Description = "Port of loopback to serve it on; without it any that is free." };
        port.Validators.Add(result =>
        {
            if (result.Tokens is [{ Value: var text }] && !(int.TryParse(text, out int number) && number is >= 0 and <= ushort.MaxValue))
                result.AddError($"--port {text}: a port is a number from 0 to {ushort.MaxValue}; 0 is any that is free.");
        });
        var command = new Command(
            "ui",
            "Serve a page for your own browser on loopback: devices, claims and why one waits, live. It changes nothing."
        )
        {
            port,
        };
        command.SetAction(shell.Run(session => ServeAsync(session, session.Value(port))));
        return [command];
    }

    private static async Task<int> ServeAsync(Session session, int port)
    {
        await using ClusterWatch watch = await ClusterWatch.StartAsync(session);
        await using PageServer server = await PageServer.StartAsync(port, watch.Feed, watch.ExplainAsync, session.Ct);
        await session.Io.Out.WriteLineAsync(server.Address);
        await session.Io.Out.FlushAsync(session.Ct);
        await session.Io.Error.WriteLineAsync("Whoever has this address can read what you may read, as long as this runs. Ctrl-C ends it.");
        await session.Io.Error.FlushAsync(session.Ct);
        await (await Task.WhenAny(watch.Running, Task.Delay(Timeout.Infinite, session.Ct)));
        session.Ct.ThrowIfCancellationRequested();
        return ExitCodes.Ok;
    }
}
