using System.Net.Sockets;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Threading.Channels;

namespace PciOperator.Vm.Tests;

/// <summary>QEMU's machine protocol (QMP): hot-plug, reset and whatever else is done to a machine from outside.</summary>
internal sealed class QmpClient : IDisposable
{
    private readonly NetworkStream _stream;
    private readonly SemaphoreSlim _oneCommand = new(1);
    private readonly Channel<JsonNode> _answers = Channel.CreateUnbounded<JsonNode>();
    private readonly Channel<JsonNode> _events = Channel.CreateUnbounded<JsonNode>();

    private QmpClient(Socket socket) => _stream = new NetworkStream(socket, ownsSocket: true);

    /// <param name="socket">QEMU's end is connected already.</param>
    /// <param name="cancellationToken">Stops waiting for QEMU's greeting.</param>
    public static async Task<QmpClient> StartAsync(Socket socket, CancellationToken cancellationToken)
    {
        var client = new QmpClient(socket);
        _ = client.ReadAsync();
        await client._answers.Reader.ReadAsync(cancellationToken); // the greeting
        await client.ExecuteAsync("qmp_capabilities", cancellationToken: cancellationToken);
        return client;
    }

    /// <returns>The command's `return` member.</returns>
    /// <exception cref="InvalidOperationException">QEMU refused it; the message is QEMU's.</exception>
    public async Task<JsonNode?> ExecuteAsync(string command, JsonObject? arguments = null, CancellationToken cancellationToken = default)
    {
        await _oneCommand.WaitAsync(cancellationToken);
        try
        {
            var request = new JsonObject { ["execute"] = command };
            if (arguments is not null)
                request["arguments"] = arguments;
            await _stream.WriteAsync(JsonSerializer.SerializeToUtf8Bytes(request), cancellationToken);
            JsonNode answer = await _answers.Reader.ReadAsync(cancellationToken);
            return answer["error"] is { } error
                ? throw new InvalidOperationException($"QEMU refused {command}: {error["desc"]}")
                : answer["return"];
        }
        finally
        {
            _oneCommand.Release();
        }
    }

    /// <summary>Waits for the next event of a name (`DEVICE_DELETED`, …); earlier ones of other names are dropped.</summary>
    public async Task<JsonNode> WaitForEventAsync(string name, CancellationToken cancellationToken)
    {
        while (true)
        {
            JsonNode next = await _events.Reader.ReadAsync(cancellationToken);
            if (next["event"]!.GetValue<string>() == name)
                return next;
        }
    }

    public void Dispose()
    {
        _stream.Dispose();
        _oneCommand.Dispose();
    }

    private async Task ReadAsync()
    {
        Exception? end = null;
        try
        {
            using var reader = new StreamReader(_stream);
            while (await reader.ReadLineAsync() is { } line)
            {
                JsonNode message = JsonNode.Parse(line)!;
                (message["event"] is null ? _answers : _events).Writer.TryWrite(message);
            }
        }
        catch (Exception exception) when (exception is IOException or ObjectDisposedException)
        {
            end = exception;
        }

        end = new IOException("QEMU has closed its QMP socket", end);
        _answers.Writer.TryComplete(end);
        _events.Writer.TryComplete(end);
    }
}
