"""Market data of Binance USDT-M through ccxt: answers are checked before they are believed."""
