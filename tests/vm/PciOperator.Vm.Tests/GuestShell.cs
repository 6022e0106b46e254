using System.Collections.Concurrent;
using System.Net.Sockets;
using System.Text;

namespace PciOperator.Vm.Tests;

/// <param name="ExitCode">The command's.</param>
/// <param name="Output">Standard output and error together, without the last line's end.</param>
internal sealed record CommandResult(int ExitCode, string Output);

/// <summary>The host's end of the guest's command loop (Guest/commands): shell commands over a virtio port, any number at a time.</summary>
internal sealed class GuestShell : IDisposable
{
    private readonly NetworkStream _stream;
    private readonly SemaphoreSlim _oneWriter = new(1);
    private readonly TaskCompletionSource _ready = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly ConcurrentDictionary<int, TaskCompletionSource<CommandResult>> _pending = [];
    private int _lastId;
    private Exception? _end;

    /// <param name="socket">The port; QEMU's end is connected already.</param>
    public GuestShell(Socket socket)
    {
        _stream = new NetworkStream(socket, ownsSocket: true);
        _ = ReadAsync();
    }

    /// <summary>Ends when the guest has booted and takes commands.</summary>
    public Task Ready => _ready.Task;

    /// <summary>Runs a shell script in the guest to its end.</summary>
    /// <exception cref="IOException">The machine stopped first.</exception>
    public async Task<CommandResult> RunAsync(string script, CancellationToken cancellationToken)
    {
        int id = Interlocked.Increment(ref _lastId);
        TaskCompletionSource<CommandResult> completion = _pending[id] = new(TaskCreationOptions.RunContinuationsAsynchronously);
        if (_end is { } end)
            throw end;
        await _oneWriter.WaitAsync(cancellationToken);
        try
        {
            await _stream.WriteAsync(
                Encoding.ASCII.GetBytes($"{id} {Convert.ToBase64String(Encoding.UTF8.GetBytes(script))}\n"),
                cancellationToken
            );
        }
        finally
        {
            _oneWriter.Release();
        }

        return await completion.Task.WaitAsync(cancellationToken);
    }

    public void Dispose()
    {
        _stream.Dispose();
        _oneWriter.Dispose();
    }

    private async Task ReadAsync()
    {
        Exception? cause = null;
        try
        {
            using var reader = new StreamReader(_stream, Encoding.ASCII);
            while (await reader.ReadLineAsync() is { } line)
            {
                if (line == "READY")
                {
                    _ready.TrySetResult();
                }
                else if (
                    line.Split(' ') is [var id, var code, .. var output]
                    && _pending.TryRemove(int.Parse(id), out TaskCompletionSource<CommandResult>? completion)
                )
                {
                    completion.TrySetResult(
                        new(int.Parse(code), Encoding.UTF8.GetString(Convert.FromBase64String(string.Concat(output))).TrimEnd('\n'))
                    );
                }
            }
        }
        catch (Exception exception) when (exception is IOException or ObjectDisposedException or FormatException)
        {
            cause = exception;
        }

        _end = new IOException("the virtual machine has stopped", cause);
        _ready.TrySetException(_end);
        foreach (TaskCompletionSource<CommandResult> completion in _pending.Values)
            completion.TrySetException(_end);
    }
}
