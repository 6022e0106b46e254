using PciOperator.AotProof;

// aot-proof grpc|lifetime|host|bare: proves one library as the programs use it and prints what it cost; ends with 1 when an answer is wrong.
string mode = args is [string one] ? one : "";
return mode switch
{
    "grpc" => await GrpcOverUnixSocket.RunAsync(),
    "lifetime" => await GenericHost.RunLifetimeAsync(),
    "host" => await GenericHost.RunAsync(),
    "bare" => Cost.Print("bare", Cost.Age(), "nothing"),
    _ => Usage(),
};

static int Usage()
{
    Console.Error.WriteLine("usage: aot-proof grpc|lifetime|host|bare");
    return 2;
}
